"""Continue a saved chat; one that may be another's opens no file elsewhere without a question."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.core.errors import UsageError
from g4cli.core.quoting import shell_command
from g4cli.operations.chat.saved import find_outside_media, load_chat

if TYPE_CHECKING:
    from g4cli.chat import Conversation
    from g4cli.cli.output import Output

_MOST_NAMED: Final = 3


def resume_chat(out: Output, wanted: Path) -> Conversation:
    """Return the saved conversation `wanted`, a name or a file.

    Whoever wrote a chat file chose the images and audio files that it names: if they are outside
    its folder, the user is asked. Raises UsageError without consent, and what load_chat raises.
    """
    conversation = load_chat(wanted)
    outside = find_outside_media(conversation, wanted)
    if outside:
        more = len(outside) - _MOST_NAMED
        named = ", ".join(map(str, outside[:_MOST_NAMED])) + (
            f" and {more} more" if more > 0 else ""
        )
        what = f"{wanted} names files outside its folder: {named}"
        if not out.can_ask:
            raise UsageError(what, hint=shell_command("g4", "chat", "--resume", wanted))
        if not out.confirm(f"{what}. Open them?"):
            raise UsageError(f"{wanted} is not continued: its files were not to be opened")
    return conversation
