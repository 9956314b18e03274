"""Draw the list of saved chats, for `g4 chat --resume list` and /load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.operations.chat.saved import list_chat_names, load_chat

if TYPE_CHECKING:
    from g4cli.cli.output import Output

_MAX_LISTED: Final = 30


def shorten_line(text: str, width: int = 60) -> str:
    """Return `text` on one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 3] + "..."


def draw_saved_chats(out: Output) -> None:
    """Draw the newest 30 saved chats, newest first: name, number of turns, first prompt."""
    rows = []
    for name in list_chat_names()[:_MAX_LISTED]:
        with out.show_errors():
            turns = load_chat(Path(name)).turns
            first = next((turn.content for turn in turns if turn.role == "user"), "")
            rows.append({"name": name, "turns": len(turns), "question": shorten_line(first, 40)})

    def draw_rows() -> None:
        for row in rows:
            out.line(f"{row['name']:<20}  {row['turns']:>3} turns  {row['question']}")
        if not rows:
            out.say("there are no saved chats yet")

    out.result(rows, draw_rows, brief="\n".join(str(row["name"]) for row in rows))
