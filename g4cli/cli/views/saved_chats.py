"""Draw saved conversations: a list of them, one with its turns, the places where text was found."""

from __future__ import annotations

import time
from collections.abc import Sequence

from g4cli.cli.output import Output
from g4cli.cli.views.chat import draw_turns
from g4cli.core.units import count_text
from g4cli.store.conversations.records import SearchHit, StoredConversation, Summary


def shorten_line(text: str, width: int = 60) -> str:
    """Return `text` on one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."


def draw_chats(out: Output, summaries: Sequence[Summary]) -> None:
    """Draw a line for each conversation: id, time, number of turns, title."""
    rows = [
        (summary.id, _local_time(summary.updated), summary.n_turns, shorten_line(summary.title))
        for summary in summaries
    ]
    if rows:
        out.table(["id", "last turn", "turns", "title"], rows, right=[0, 2])
    else:
        out.say("no conversations are saved yet; to start one: g4 chat")


def draw_hits(out: Output, hits: Sequence[SearchHit]) -> None:
    """Draw each conversation that was found, and below it the text around the match."""
    for hit in hits:
        out.line((f"{hit.summary.id:>5}", "bold"), f"  {shorten_line(hit.summary.title)}")
        if hit.excerpt:
            out.line(f"       {shorten_line(hit.excerpt, 72)}")
    if not hits:
        out.say("nothing was found")


def draw_chat(out: Output, conversation: StoredConversation) -> None:
    """Draw the turns of the shown branch, as `g4 chat --resume` does before it goes on."""
    if conversation.summary.system:
        out.say(f"system: {conversation.summary.system}")
    draw_turns(out, conversation.messages)
    if more := conversation.summary.n_turns - len(conversation.turns):
        out.say(f"other branches have {count_text(more, 'more turn')}")


def _local_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
