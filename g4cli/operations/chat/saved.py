"""Conversations on the disk: each in a file of its own, so that none is lost to another.

The files lie in `state_dir()/chats`, readable by their user alone, named by when they began. The
one written last is 'last'.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from g4cli.chat import Conversation
from g4cli.core.errors import BadFile, FileMissing, UsageError
from g4cli.core.files import atomic_file, make_folder, open_file, require_file
from g4cli.core.paths import state_dir
from g4cli.core.quoting import shell_command
from g4cli.core.units import size_text

LAST: Final = "last"
LIST: Final = "list"
_SUFFIX: Final = ".json"
_MOST_BYTES: Final = 64 << 20


def chats_dir() -> Path:
    """Return the folder of the conversations that g4 keeps by itself (not created)."""
    return state_dir() / "chats"


def chat_names() -> list[str]:
    """Return the names of the kept conversations, the one written last first."""
    try:
        files = [path for path in chats_dir().iterdir() if path.suffix == _SUFFIX]
        files.sort(key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    except OSError:
        return []
    return [path.stem for path in files if not path.name.startswith(".")]


def keep_chat(conversation: Conversation) -> None:
    """Write the conversation to its file; a new one gets its name here. One without turns is not written.

    Raises UsageError or NoSpace.
    """
    if not conversation.turns:
        return
    if not conversation.name:
        conversation.name = _new_name()
    save_chat(conversation, chats_dir() / f"{conversation.name}{_SUFFIX}")


def save_chat(conversation: Conversation, path: Path) -> None:
    """Write the conversation to `path`, whole or not at all, readable by the user alone."""
    with atomic_file(path, mode=0o600) as file:
        file.write(conversation.to_text().encode("utf-8", "surrogateescape"))


def may_replace(path: Path) -> bool:
    """Return whether nothing but a saved chat would be lost if `path` were written.

    Raises UsageError if its folder does not exist.
    """
    if not path.parent.is_dir():
        raise UsageError(
            f"no such folder: {path.parent}", hint=shell_command("mkdir", "-p", path.parent)
        )
    if not path.exists():
        return True
    try:
        Conversation.from_text(_text_of(path))
    except (BadFile, UsageError):
        return False
    return True


def load_chat(wanted: Path) -> Conversation:
    """Return the conversation in the file `wanted`, or the kept one of that name; 'last' is the newest.

    A kept one goes on in its own file. Raises FileMissing, UsageError or BadFile.
    """
    names = chat_names()
    name = str(wanted)
    if name == LAST:
        if not names:
            raise FileMissing(chats_dir(), hint="g4 chat")
        name = names[0]
    if name in names:
        conversation = Conversation.from_text(_text_of(chats_dir() / f"{name}{_SUFFIX}"))
        conversation.name = name
        return conversation
    try:
        return Conversation.from_text(_text_of(wanted.expanduser()))
    except FileMissing as err:
        raise FileMissing(wanted, hint="g4 chat --resume list") from err


def _text_of(path: Path) -> str:
    size = require_file(path).stat().st_size
    if size > _MOST_BYTES:
        raise UsageError(f"{path} is too large ({size_text(size)})")
    with open_file(path) as file:
        return file.read(_MOST_BYTES).decode("utf-8", "replace")


def _new_name() -> str:
    """Return a name that no other conversation has or gets: an empty file holds its place."""
    folder = chats_dir()
    began = time.strftime("%Y-%m-%d-%H%M%S")
    try:
        make_folder(folder, private=True)
        for number in range(1, 1000):
            name = began if number == 1 else f"{began}-{number}"
            try:
                os.close(
                    os.open(
                        folder / f"{name}{_SUFFIX}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600
                    )
                )
            except FileExistsError:
                continue
            return name
    except OSError as err:
        raise UsageError(
            f"{folder} cannot be written: {err.strerror}", hint="export G4_HOME=FOLDER"
        ) from err
    raise UsageError(f"{folder} takes no more names", hint=shell_command("ls", folder))
