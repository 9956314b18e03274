"""Find conversations in the database by id; read and write files that hold one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from g4cli.chat import Conversation
from g4cli.core.errors import BadFile, FileMissing, G4Error, NotFound, UsageError
from g4cli.core.files import atomic_file, is_there, read_text, require_file, require_file_target
from g4cli.core.hashing import sha256_of
from g4cli.core.paths import expand_home
from g4cli.core.quoting import shell_command
from g4cli.store.conversations.records import StoredConversation
from g4cli.store.conversations.store import ConversationStore

LAST: Final = "last"  # what --resume and `g4 chats` take besides an id
_MAX_BYTES: Final = 64 << 20  # a choice: of a file with one conversation
_MAX_ID_DIGITS: Final = 18  # SQLite's integers have 63 bits


def find_chat(store: ConversationStore, name: str) -> int | None:
    """Return the id of the conversation called `name`: its id, "last", or the name of its old file.

    None if it is none of these. An id is not looked up: a wrong one never names a file.
    """
    if name == LAST:
        return store.find_latest()
    if name.isascii() and name.isdecimal() and len(name) <= _MAX_ID_DIGITS:
        return int(name)
    return store.find_imported(name)


def load_stored_chat(store: ConversationStore, name: str) -> StoredConversation:
    """Return the conversation called `name` of the database. Raises NotFound."""
    chat_id = find_chat(store, name)
    if chat_id is None:
        what = (
            "no conversation is saved yet" if name == LAST else f"no conversation is called {name}"
        )
        raise NotFound(what, hint="g4 chat" if name == LAST else "g4 chats")
    return store.load(chat_id)


def load_chat(name: str) -> StoredConversation:
    """Return the conversation called `name` of this user's database. Raises NotFound."""
    with ConversationStore.open() as store:
        return load_stored_chat(store, name)


def make_conversation(stored: StoredConversation) -> Conversation:
    """Return the shown branch of a stored conversation, to be continued."""
    return Conversation(
        stored.summary.system,
        stored.messages,
        stored_id=stored.summary.id,
        stored=[(turn.id, turn.message) for turn in stored.turns],
    )


def find_changed_media(stored: StoredConversation) -> tuple[Path, ...]:
    """Return the images and audio files whose content is no longer what was asked about."""
    changed = []
    for turn in stored.turns:
        for item, sha256 in zip(turn.message.media, turn.media_sha256, strict=False):
            try:
                if sha256 and sha256_of(require_file(item.path)) != sha256:
                    changed.append(item.path)
            except (G4Error, OSError):
                changed.append(item.path)
    return tuple(changed)


def load_chat_file(file: Path) -> Conversation:
    """Return the conversation in `file`. Raises FileMissing, UsageError or BadFile."""
    try:
        conversation = Conversation.from_text(read_text(expand_home(file), _MAX_BYTES))
    except FileMissing as err:
        raise FileMissing(file, hint="g4 chats") from err
    # g4 writes absolute paths; a chat that is passed on with its files names them from where it is.
    folder = _folder_of(file)
    conversation.turns = [
        replace(turn, media=tuple(replace(item, path=folder / item.path) for item in turn.media))
        for turn in conversation.turns
    ]
    return conversation


def save_chat(conversation: Conversation, path: Path) -> None:
    """Write the conversation to `path`, completely or not at all, readable by the user only."""
    with atomic_file(path, mode=0o600) as file:
        # Python writes lone surrogates, which UTF-8 lacks, as JSON does: \udce9.
        file.write(conversation.to_text().encode("utf-8", "backslashreplace"))


def may_replace(path: Path) -> bool:
    """Return whether `path` is free or a saved chat, so that nothing else would be overwritten.

    Raises UsageError if its folder does not exist, or if it cannot be a file.
    """
    if not is_there(path.parent):
        raise UsageError(
            f"no such folder: {path.parent}", hint=shell_command("mkdir", "-p", path.parent)
        )
    if not require_file_target(path):
        return True
    try:
        Conversation.from_text(read_text(path, _MAX_BYTES))
    except (BadFile, UsageError):
        return False
    return True


def find_outside_media(conversation: Conversation, file: Path) -> tuple[Path, ...]:
    """Return the images and audio files of `conversation` that are outside the folder of `file`.

    Links are followed.
    """
    folder = _folder_of(file)
    paths = dict.fromkeys(item.path for turn in conversation.turns for item in turn.media)
    return tuple(path for path in paths if not _is_inside(path, folder))


def _folder_of(file: Path) -> Path:
    """Return the folder of a chat file, the one that a link leads to: its media lie there."""
    return expand_home(file).resolve().parent


def _is_inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder)
    except (OSError, RuntimeError, ValueError):  # a loop of links, a null byte
        return False
