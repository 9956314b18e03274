"""Answers in the terminal: Markdown that is drawn while it streams, each line at most once.

Finished pieces (paragraphs, items of a list, lines of code) are printed for good. Only the piece
still being written lies in a region at the bottom that is redrawn, and of it only the lines that
changed: nothing flickers, and the scroll-back holds every line once. Drawing takes at most a small
share of the time, however long a piece grows: the more a redraw has cost, the later the next one
comes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

from g4cli.chat import PromptRead, TurnEvent
from g4cli.cli.views.blocks import BlockReader, CodeBegin, CodeLine, Piece
from g4cli.cli.views.code import Highlighter
from g4cli.cli.views.markdown import render_lines, render_markdown, split_rows, strip_styles
from g4cli.cli.views.plain_chat import THOUGHT_BEGINS, THOUGHT_ENDS, PlainView
from g4cli.cli.views.reply import call_json
from g4cli.core.units import duration_text
from g4cli.core.visible import AnswerCleaner, escape_invisible, one_line
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtEnded, ThoughtText

if TYPE_CHECKING:
    from rich.console import Console

    from g4cli.cli.output import Output
    from g4cli.prompt.messages import Message

# A terminal keeps up with more, an eye does not; the last state is always drawn.
_REDRAW_S: Final = 0.04
# The next redraw comes no earlier than this many times what the last one took: 3 % of the time at
# most.
_PAUSE: Final = 30
# Terminals that know it show a frame only when it is whole; the others ignore it.
_FRAME_BEGIN, _FRAME_END = "\x1b[?2026h", "\x1b[?2026l"


class Region:
    """The last lines of the terminal, redrawn from the first line that changed.

    Lines above the window cannot be changed any more. Those that a long piece pushes out stay in
    the scroll-back as they are; if the piece has changed there when it is drawn again, it begins
    anew below.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: list[str] = []  # what can be redrawn
        self._gone: list[str] = []  # what was pushed out of the window, of the same piece
        self._drawn_width = 0

    @property
    def width(self) -> int:
        """Return the columns to draw in: a piece that was pushed out in part keeps its width."""
        return self._drawn_width if self._gone else self._console.width

    def draw(self, lines: Sequence[str], *, only_last: bool = False) -> None:
        """Show `lines`. What does not fit the window scrolls out above, or is left out with
        `only_last`.
        """
        rows = max(1, self._console.height - 2)
        if only_last:
            self._redraw_lines(lines[-rows:])
            return
        lines = self._without_gone(lines)
        self._redraw_lines(lines)
        self._gone += lines[:-rows]
        self._lines = list(lines[-rows:])

    def finish(self, lines: Sequence[str]) -> None:
        """Show `lines` for good; they may be wider than the terminal, which wraps them."""
        self._redraw_lines(self._without_gone(lines))
        self._lines, self._gone = [], []

    def clear(self) -> None:
        """Take the region away; the cursor stands where it began."""
        self._redraw_lines([])

    def _without_gone(self, lines: Sequence[str]) -> Sequence[str]:
        n_gone = len(self._gone)
        if [strip_styles(line) for line in lines[:n_gone]] == [
            strip_styles(line) for line in self._gone
        ]:
            return lines[n_gone:]
        self._gone = []
        return lines

    def _redraw_lines(self, lines: Sequence[str]) -> None:
        width = self._console.width
        same = 0
        # Another width has moved what was drawn: all of it is drawn again.
        if width == self._drawn_width:
            for old, new in zip(self._lines, lines, strict=False):
                if old != new:
                    break
                same += 1
        if same == len(self._lines) == len(lines):
            return
        up = sum(self._count_rows(line, width) for line in self._lines[same:])
        text = "".join(f"\r\x1b[K{line}\n" for line in lines[same:])
        move = f"\x1b[{min(up, self._console.height - 1)}A\r\x1b[J" if up else ""
        self._write_text(f"{_FRAME_BEGIN}{move}{text}{_FRAME_END}")
        self._lines, self._drawn_width = list(lines), width

    def _count_rows(self, line: str, width: int) -> int:
        """Return the rows that a drawn line takes: a terminal that became narrower has wrapped it
        again.
        """
        if width >= self._drawn_width:
            return 1
        return max(1, -(-cell_len(strip_styles(line)) // width))

    def _write_text(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


class MarkdownView:
    """Shows the events of one turn; use it as a context manager. `clock` counts seconds."""

    def __init__(
        self, out: Output, thoughts: str, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._out, self._thoughts, self._clock = out, thoughts, clock
        self._console = out.console()
        self._region = Region(self._console)
        self._reader, self._cleaned = BlockReader(), AnswerCleaner()
        self._highlighter = Highlighter("")
        self._has_printed = False
        self._draw_at = 0.0
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
        self._finish_text()
        if self._has_printed:
            self._console.print()

    def show(self, event: TurnEvent) -> None:
        """Show one event."""
        if isinstance(event, AnswerText):
            self._end_thought()
            self._feed_text(self._cleaned(event.text))
        elif isinstance(event, ThoughtText):
            self._show_thought(event.text)
        elif isinstance(event, ThoughtEnded):
            self._end_thought()
        elif isinstance(event, CallMade):
            self._end_thought()
            self._finish_text()
            self._print_piece(CodeBegin("json", gap=True))
            self._print_piece(CodeLine(escape_invisible(call_json(event))))
            self._reader.feed("\n")  # what follows stands apart
        elif isinstance(event, PromptRead):
            self._region.draw([_dim_text("...")])

    def show_waiting(self) -> None:
        """Show that the model is at work. After this nobody else writes to the terminal."""
        self._region.draw([_dim_text("...")])

    def show_encoding(self, name: str) -> None:
        """Show that a picture or sound is encoded."""
        self._region.draw([_dim_text(f"encoding {one_line(name)} ...")])

    def show_reading(self, done: int, total: int, _label: str) -> None:
        """Show how much of a long prompt is read: fits `Progress`."""
        if total:
            self._region.draw([_dim_text(f"reading {total:,} tokens: {100 * done // total} %")])

    def _feed_text(self, text: str) -> None:
        for piece in self._reader.feed(text):
            self._print_piece(piece)
        now = self._clock()
        if now >= self._draw_at:
            self._draw_pending()
            done = self._clock()
            self._draw_at = max(now + _REDRAW_S, done + _PAUSE * (done - now))

    def _finish_text(self) -> None:
        for piece in self._reader.finish():
            self._print_piece(piece)
        self._region.clear()

    def _print_piece(self, piece: Piece) -> None:
        gap = [""] if self._has_printed and not isinstance(piece, CodeLine) and piece.gap else []
        if isinstance(piece, CodeLine):
            self._region.finish(
                render_lines(self._console, [self._highlighter.highlight_line(piece.text)])
            )
        elif isinstance(piece, CodeBegin):
            self._highlighter = Highlighter(piece.language)
            self._region.finish(gap)
        else:
            width = self._region.width
            lines = render_markdown(self._console, piece.source, width=width, indent=piece.indent)
            self._region.finish([*gap, *lines])
        self._has_printed = True

    def _draw_pending(self) -> None:
        """Draw the piece that is not finished."""
        block, width = self._reader.pending, self._region.width
        if not block.source.strip():
            if not self._reader.in_code:
                return  # the dots of waiting stay until there is something to see
            lines: list[str] = []
        elif self._reader.in_code:
            rows = split_rows(Text(block.source.expandtabs(8)), width)
            lines = render_lines(self._console, rows)
        else:
            lines = render_markdown(self._console, block.source, width=width, indent=block.indent)
        if block.gap and self._has_printed and lines:
            lines.insert(0, "")
        # The columns of a table may change with each row, a line of code is wrapped by the
        # terminal.
        self._region.draw(lines, only_last=self._reader.in_code or "|" in block.source)

    def _show_thought(self, text: str) -> None:
        if not self._thought_tokens:
            self._thought_since = time.monotonic()
            self._region.clear()
            if self._thoughts == "show":
                self._out.write_thought(THOUGHT_BEGINS)
        self._thought_tokens += 1
        if self._thoughts == "show":
            self._out.write_thought(text)
            self._thought_ends_line = text.endswith("\n")
        elif self._thoughts == "fold":
            self._region.draw([_dim_text(f"thinking ... {self._thought_tokens} tokens")])

    def _end_thought(self) -> None:
        if not self._thought_tokens:
            return
        seconds = time.monotonic() - self._thought_since
        self._region.clear()
        if self._thoughts == "show":
            self._out.write_thought(("" if self._thought_ends_line else "\n") + THOUGHT_ENDS)
        elif self._thoughts == "fold":
            self._out.say(f"thought for {duration_text(seconds)} ({self._thought_tokens} tokens)")
        self._thought_tokens = 0


def view_for(out: Output, thoughts: str) -> MarkdownView | PlainView:
    """Return the view that this terminal can show: one that cannot move its cursor gets plain text."""
    return (
        PlainView(out, thoughts) if out.console().is_dumb_terminal else MarkdownView(out, thoughts)
    )


def draw_turns(out: Output, turns: Sequence[Message]) -> None:
    """Draw a conversation that was loaded."""
    for turn in turns:
        if turn.role == "user":
            out.line(f">>> {turn.content}", style="bold")
            for medium in turn.media:
                out.line(f"    [{medium.kind}: {medium.path}]")
        elif turn.content:
            with view_for(out, "hide") as view:
                view.show(AnswerText(turn.content))


def _dim_text(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if sys.stdout.isatty() else text
