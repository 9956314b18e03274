"""Tools that come with g4. They only read, and are off unless they are named."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import FileMissing, UsageError
from g4cli.core.paths import expand_home
from g4cli.operations.tools.tool import RESULT_CHARACTERS, Tool, ToolFailed, declare_function

_MAX_NAMES: Final = 500  # a choice: of a folder, some thousand tokens
_PATH: Final = {"type": "string", "description": "relative to the folder; '.' is the folder itself"}


def make_builtin_tools(names: str) -> list[Tool]:
    """Return the tools of `--builtin`: "time", "files:FOLDER", or both with a comma.

    Raises UsageError or FileMissing.
    """
    tools: list[Tool] = []
    for item in names.split(","):
        name, _, folder = item.strip().partition(":")
        if name == "time" and not folder:
            tools.append(_TIME)
        elif name == "files" and folder:
            tools += make_file_tools(expand_home(folder))
        else:
            raise UsageError(
                f"--builtin {item.strip()!r} is not a tool of g4",
                hint="--builtin time,files:FOLDER",
            )
    return tools


def _tell_time(_arguments: Mapping[str, Any]) -> str:
    return datetime.now().astimezone().strftime("%A, %Y-%m-%dT%H:%M:%S%z")


_TIME: Final = Tool(
    declare_function(
        "current_time",
        "Returns the weekday, date and time here.",
        {"type": "object", "properties": {}},
    ),
    "built in",
    _tell_time,
)


def make_file_tools(folder: Path) -> list[Tool]:
    """Return tools that list and read what is below `folder`. Raises FileMissing without it."""
    if not folder.is_dir():
        raise FileMissing(folder, hint="--builtin files:FOLDER")
    root = folder.resolve()
    parameters = {"type": "object", "properties": {"path": _PATH}, "required": ["path"]}
    return [
        Tool(
            declare_function("list_files", f"Lists a folder within {root.name}.", parameters),
            f"files below {root}",
            lambda arguments: _list_folder(root, str(arguments.get("path", "."))),
        ),
        Tool(
            declare_function(
                "read_file", f"Returns the text of a file of {root.name}.", parameters
            ),
            f"files below {root}",
            lambda arguments: _read_file(root, str(arguments.get("path", ""))),
        ),
    ]


def _find_inside(root: Path, name: str) -> Path:
    """Return the real path of `name` below `root`.

    Raises ToolFailed if it leaves the folder, by '..' or by a link, or does not exist.
    """
    try:
        path = (root / name).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        path = None
    if path is None or (path != root and root not in path.parents):
        raise ToolFailed(f"there is no {name!r} in this folder")
    return path


def _list_folder(root: Path, name: str) -> str:
    path = _find_inside(root, name)
    if not path.is_dir():
        raise ToolFailed(f"{name!r} is no folder")
    with os.scandir(path) as entries:
        names = sorted(
            f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
            for entry in entries
        )
    more = f"\n[{len(names) - _MAX_NAMES:,} more]" if len(names) > _MAX_NAMES else ""
    return "\n".join(names[:_MAX_NAMES]) + more


def _read_file(root: Path, name: str) -> str:
    path = _find_inside(root, name)
    # The last part must not have become a link, a pipe or a device since it was looked at.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise ToolFailed(f"{name!r} is no file")
        data = file.read(4 * RESULT_CHARACTERS)  # a character has four bytes of UTF-8 at most
    if b"\0" in data:
        raise ToolFailed(f"{name!r} is no text file")
    text = data.decode("utf-8", "replace")
    if facts.st_size > len(data):
        note = f"\n[this is the beginning of a file of {facts.st_size:,} bytes]"
        text = text[: RESULT_CHARACTERS - len(note)] + note
    return text
