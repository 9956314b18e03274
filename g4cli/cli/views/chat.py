"""Answers in the terminal: Markdown that is drawn while it streams, each line at most once.

Finished blocks (paragraphs, lists, code) are printed for good. Only the block still being written lies in a
region at the bottom that is redrawn, and of it only the lines that changed: nothing flickers, and the
scroll-back holds every line once.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final

from g4cli.chat import LoopSuspected, PromptRead, TurnEvent
from g4cli.cli.chat.oneshot import PlainView, call_json
from g4cli.cli.output import clean
from g4cli.core.units import duration_text
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtEnded, ThoughtText

if TYPE_CHECKING:
    from rich.console import Console

    from g4cli.cli.output import Output
    from g4cli.prompt.messages import Message

# A terminal keeps up with more, an eye does not; the last state is always drawn.
_REDRAW_S: Final = 0.04
_FENCE: Final = re.compile(r" {0,3}(```+|~~~+)")
# Terminals that know it show a frame only when it is whole; the others ignore it.
_FRAME_BEGIN, _FRAME_END = "\x1b[?2026h", "\x1b[?2026l"


class Region:
    """The last lines of the terminal, redrawn from the first line that changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: list[str] = []

    def draw(self, lines: Sequence[str]) -> None:
        """Show `lines`, at most as many as the terminal has."""
        shown = list(lines[-max(1, self._console.size.height - 2) :])
        same = 0
        for old, new in zip(self._lines, shown, strict=False):
            if old != new:
                break
            same += 1
        if same == len(self._lines) == len(shown):
            return
        up = len(self._lines) - same
        text = "".join(f"{line}\x1b[K\n" for line in shown[same:])
        move = f"\x1b[{up}A\r" if up else ""
        self._write(f"{_FRAME_BEGIN}{move}{text}\x1b[J{_FRAME_END}")
        self._lines = shown

    def clear(self) -> None:
        """Take the region away; the cursor stands where it began."""
        if self._lines:
            self._write(f"{_FRAME_BEGIN}\x1b[{len(self._lines)}A\r\x1b[J{_FRAME_END}")
            self._lines = []

    def _write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


class MarkdownView:
    """Shows the events of one turn; use it as a context manager."""

    def __init__(self, out: Output, thoughts: str) -> None:
        self._out, self._thoughts = out, thoughts
        self._console = out.console()
        self._region = Region(self._console)
        self._pending = ""
        self._blocks = 0
        self._drawn_at = 0.0
        self._thought_since = 0.0
        self._thought_tokens = 0
        self._thought_ends_line = False

    def __enter__(self) -> MarkdownView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        err: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_thought()
        self._region.clear()
        if self._pending.strip():
            self._print(self._pending)
        self._pending = ""
        if self._blocks:
            self._console.print()

    def show(self, event: TurnEvent) -> None:
        """Show one event."""
        if isinstance(event, AnswerText):
            self._end_thought()
            self._pending += clean(event.text)
            self._advance()
        elif isinstance(event, ThoughtText):
            self._think(event.text)
        elif isinstance(event, ThoughtEnded):
            self._end_thought()
        elif isinstance(event, CallMade):
            self._end_thought()
            self._flush()
            self._print(f"```json\n{clean(call_json(event))}\n```")
        elif isinstance(event, LoopSuspected):
            return  # the final line tells it, if it comes to that
        elif isinstance(event, PromptRead):
            self._region.draw([_dim("...")])

    def waiting(self) -> None:
        """Show that the model is at work. After this nobody else writes to the terminal."""
        self._region.draw([_dim("...")])

    def encoding(self, name: str) -> None:
        """Show that a picture or sound is encoded."""
        self._region.draw([_dim(f"encoding {clean(name)} ...")])

    def reading(self, done: int, total: int, _label: str) -> None:
        """Show how much of a long prompt is read: fits `Progress`."""
        if total:
            self._region.draw([_dim(f"reading {total:,} tokens: {100 * done // total} %")])

    def _advance(self) -> None:
        done, self._pending = split_blocks(self._pending)
        if done:
            self._region.clear()
            for block in done:
                self._print(block)
        now = time.monotonic()
        if now - self._drawn_at >= _REDRAW_S:
            self._drawn_at = now
            lines = self._rendered(self._pending) if self._pending.strip() else []
            self._region.draw(["", *lines] if self._blocks and lines else lines)

    def _flush(self) -> None:
        self._region.clear()
        if self._pending.strip():
            self._print(self._pending)
        self._pending = ""

    def _print(self, block: str) -> None:
        self._region.clear()
        if self._blocks:
            self._console.print()
        self._console.print(markdown(block))
        self._blocks += 1

    def _rendered(self, block: str) -> list[str]:
        with self._console.capture() as capture:
            self._console.print(markdown(block))
        return capture.get().rstrip("\n").split("\n")

    def _think(self, text: str) -> None:
        if not self._thought_tokens:
            self._thought_since = time.monotonic()
            self._region.clear()
        self._thought_tokens += 1
        if self._thoughts == "show":
            self._out.murmur(text)
            self._thought_ends_line = text.endswith("\n")
        elif self._thoughts == "fold":
            self._region.draw([_dim(f"thinking ... {self._thought_tokens} tokens")])

    def _end_thought(self) -> None:
        if not self._thought_tokens:
            return
        seconds = time.monotonic() - self._thought_since
        self._region.clear()
        if self._thoughts == "show":
            self._out.murmur("\n" if self._thought_ends_line else "\n\n")
        elif self._thoughts == "fold":
            self._out.say(f"thought for {duration_text(seconds)} ({self._thought_tokens} tokens)")
        self._thought_tokens = 0


def view_for(out: Output, thoughts: str) -> MarkdownView | PlainView:
    """Return the view that this terminal can show: one that cannot move its cursor gets plain text."""
    return (
        PlainView(out, thoughts) if out.console().is_dumb_terminal else MarkdownView(out, thoughts)
    )


def split_blocks(text: str) -> tuple[list[str], str]:
    """Return the blocks of `text` that nothing to come can change, and the rest.

    A block ends at a blank line outside a code fence, once the next line has begun at the margin: an
    indented one would still belong to a list item.
    """
    done: list[str] = []
    start, at, fence = 0, 0, ""
    blank_since: int | None = None
    while True:
        end = text.find("\n", at)
        line = text[at:] if end < 0 else text[at:end]
        if blank_since is not None and line and not fence:
            if not line[0].isspace():
                block = text[start:blank_since]
                if block.strip():
                    done.append(block.strip("\n"))
                start = at
            blank_since = None if line.strip() else blank_since
        if end < 0:
            return done, text[start:]
        mark = _FENCE.match(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            fence = ""
        elif not line.strip() and not fence and blank_since is None:
            blank_since = at
        at = end + 1


def markdown(text: str) -> object:
    """Return `text` as rich draws it; single line breaks stay line breaks, as in every chat."""
    from rich.markdown import Markdown

    lines, fence = [], False
    for line in text.split("\n"):
        if _FENCE.match(line):
            fence = not fence
        lines.append(line if fence or not line.strip() else line + "  ")
    return Markdown("\n".join(lines), code_theme="ansi_dark", hyperlinks=False)


def draw_turns(out: Output, turns: Sequence[Message]) -> None:
    """Draw a conversation that was loaded."""
    for turn in turns:
        if turn.role == "user":
            out.line(f">>> {turn.content}", style="bold")
        elif turn.content:
            out.draw(markdown(clean(turn.content)))
            out.line()


def _dim(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if sys.stdout.isatty() else text
