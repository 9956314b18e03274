"""Save and load conversations: each in a file of its own, so that none overwrites another.

The files are in `state_dir()/chats`, readable by their user only, and named by the time at which
they began. "last" means the one that was written last.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
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
    """Return the folder of the automatically saved conversations; it may not exist yet."""
    return state_dir() / "chats"


def list_chat_names() -> list[str]:
    """Return the names of the automatically saved conversations, the newest first."""
    try:
        files = [path for path in chats_dir().iterdir() if path.suffix == _SUFFIX]
        files.sort(key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
    except OSError:
        return []
    return [path.stem for path in files if not path.name.startswith(".")]


def autosave_chat(conversation: Conversation) -> None:
    """Write a conversation that has turns to its own file; a new one gets its name here.

    Raises UsageError or NoSpace.
    """
    if not conversation.turns:
        return
    if not conversation.name:
        conversation.name = _reserve_name()
    save_chat(conversation, chats_dir() / f"{conversation.name}{_SUFFIX}")


def save_chat(conversation: Conversation, path: Path) -> None:
    """Write the conversation to `path`, completely or not at all, readable by the user only."""
    with atomic_file(path, mode=0o600) as file:
        file.write(conversation.to_text().encode("utf-8", "surrogateescape"))


def may_replace(path: Path) -> bool:
    """Return whether `path` is free or a saved chat, so that nothing else would be overwritten.

    Raises UsageError if its folder does not exist.
    """
    if not path.parent.is_dir():
        raise UsageError(
            f"no such folder: {path.parent}", hint=shell_command("mkdir", "-p", path.parent)
        )
    if not path.exists():
        return True
    try:
        Conversation.from_text(_read_chat_text(path))
    except (BadFile, UsageError):
        return False
    return True


def load_chat(wanted: Path) -> Conversation:
    """Return the saved conversation of the name `wanted`, or the one in that file.

    "last" is the newest. A conversation that was saved automatically continues in its own file.
    Raises FileMissing, UsageError or BadFile.
    """
    names = list_chat_names()
    name = str(wanted)
    if name == LAST:
        if not names:
            raise FileMissing(chats_dir(), hint="g4 chat")
        name = names[0]
    if name in names:
        conversation = Conversation.from_text(_read_chat_text(chats_dir() / f"{name}{_SUFFIX}"))
        conversation.name = name
        return conversation
    try:
        conversation = Conversation.from_text(_read_chat_text(wanted.expanduser()))
    except FileMissing as err:
        raise FileMissing(wanted, hint="g4 chat --resume list") from err
    # g4 writes absolute paths; a chat that is passed on with its files names them from where it is.
    folder = wanted.expanduser().absolute().parent
    conversation.turns = [
        replace(turn, media=tuple(replace(item, path=folder / item.path) for item in turn.media))
        for turn in conversation.turns
    ]
    return conversation


def find_outside_media(conversation: Conversation, file: Path) -> tuple[Path, ...]:
    """Return the images and audio files of `conversation` that are outside the folder of `file`.

    Links are followed. None are outside for a conversation that was saved automatically: g4 itself
    wrote what it names.
    """
    if conversation.name:
        return ()
    folder = file.expanduser().resolve().parent
    paths = dict.fromkeys(item.path for turn in conversation.turns for item in turn.media)
    return tuple(path for path in paths if not _is_inside(path, folder))


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder)
    except (OSError, RuntimeError, ValueError):  # a loop of links, a null byte
        return False


def _read_chat_text(path: Path) -> str:
    size = require_file(path).stat().st_size
    if size > _MOST_BYTES:
        raise UsageError(f"{path} is too large ({size_text(size)})")
    with open_file(path) as file:
        return file.read(_MOST_BYTES).decode("utf-8", "replace")


def _reserve_name() -> str:
    """Return a new name, reserved by an empty file so that no other process takes it."""
    folder = chats_dir()
    began = time.strftime("%Y-%m-%d-%H%M%S")
    try:
        make_folder(folder, private=True)
        for number in range(1, 1000):
            name = began if number == 1 else f"{began}-{number}"
            path = folder / f"{name}{_SUFFIX}"
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                continue
            return name
    except OSError as err:
        raise UsageError(
            f"{folder} cannot be written: {err.strerror}", hint="export G4_HOME=FOLDER"
        ) from err
    raise UsageError(f"{folder} has too many chats", hint=shell_command("ls", folder))
