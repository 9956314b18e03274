"""Continue a saved chat; a chat file opens no media outside its folder without consent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.core.errors import UsageError
from g4cli.core.quoting import shell_command
from g4cli.operations.chat.saved import (
    LAST,
    find_changed_media,
    find_chat,
    find_outside_media,
    load_chat_file,
    load_stored_chat,
    make_conversation,
)
from g4cli.store.conversations.store import ConversationStore

if TYPE_CHECKING:
    from g4cli.chat import Conversation
    from g4cli.cli.output import Output

_MAX_NAMED: Final = 3  # files that the question to the user lists


def resume_chat(out: Output, wanted: str) -> tuple[Conversation, str]:
    """Return the saved conversation `wanted`, an id, "last" or a file, and the model it was with.

    The model is "" if it is not known. Whoever wrote a chat file chose the images and audio files
    that it names: if they are outside its folder, the user is asked. Raises UsageError without
    consent, NotFound, BadFile, and what load_chat_file raises.
    """
    with ConversationStore.open() as store:
        if wanted == LAST or find_chat(store, wanted) is not None:
            stored = load_stored_chat(store, wanted)
            for path in find_changed_media(stored):
                out.warn(f"{path} has changed since this conversation")
            return make_conversation(stored), stored.summary.model
    return _open_file(out, Path(wanted)), ""


def _open_file(out: Output, file: Path) -> Conversation:
    """Return the conversation of a chat file, whose media the user may have to allow."""
    conversation = load_chat_file(file)
    outside = find_outside_media(conversation, file)
    if outside:
        more = len(outside) - _MAX_NAMED
        named = ", ".join(map(str, outside[:_MAX_NAMED])) + (
            f" and {more} more" if more > 0 else ""
        )
        what = f"{file} names files outside its folder: {named}"
        if not out.can_ask:
            raise UsageError(what, hint=shell_command("g4", "chat", "--resume", file))
        if not out.confirm(f"{what}. Open them?"):
            raise UsageError(f"{file} was not opened, since its files may not be opened")
    return conversation
