"""Draw answers in the terminal while they stream, as Markdown.

A finished piece (a paragraph, a list item, a line of code) is printed once and never touched again.
The unfinished piece is drawn in a region at the bottom of the window. When it grows, only the lines
of the region that changed are drawn again: nothing flickers, and the scroll-back holds every line
once. Drawing takes a small share of the time however long a piece grows, because the next redraw
waits in proportion to what the last one cost.

`cli/chat/controller.py` makes a view for each turn and gives it the events of the turn. `blocks.py`
splits the text into pieces, `markdown.py` and `code.py` make lines of them; here they are placed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

from g4cli.chat import LoopNoticed, PromptRead, TurnEvent, View
from g4cli.cli.views.blocks import BlockReader, CodeBegin, CodeLine, Piece
from g4cli.cli.views.code import Highlighter
from g4cli.cli.views.markdown import render_lines, render_markdown, split_rows, strip_styles
from g4cli.cli.views.plain_chat import THOUGHT_BEGINS, THOUGHT_ENDS, PlainView
from g4cli.cli.views.reply import describe_notice, format_call, shorten_result
from g4cli.core.units import count_text, duration_text
from g4cli.core.visible import AnswerCleaner, escape_invisible, one_line
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtText

if TYPE_CHECKING:
    from rich.console import Console

    from g4cli.cli.output import Output
    from g4cli.prompt.messages import Message

# Seconds between the beginnings of two redraws, at least: nobody sees more than 25 a second.
_REDRAW_S: Final = 0.04
# The pause after a redraw is this many times its duration: drawing takes at most 3 % of the time.
_PAUSE_FACTOR: Final = 30
# Lines of the window that the region leaves free: the cursor's, and one with what came before.
_FREE_LINES: Final = 2
# "Synchronized output": a terminal that knows this mode shows a redraw only when it is complete.
_SYNC_BEGIN, _SYNC_END = "\x1b[?2026h", "\x1b[?2026l"
_CLEAR_LINE, _CLEAR_BELOW = "\r\x1b[K", "\r\x1b[J"  # from the first column on


class Region:
    """The last lines of the terminal, redrawn from the first line that changed.

    A terminal cannot change lines that have scrolled out of its window. Lines that a long piece
    pushes out stay in the scroll-back as they are. If such a line would have changed, the whole
    piece is drawn again below.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: list[str] = []  # lines in the window, which can be redrawn
        self._lines_above: list[str] = []  # lines of the same piece that have left the window
        self._drawn_width = 0  # columns of the window when the lines were drawn

    @property
    def width(self) -> int:
        """The columns to draw in. A piece that has partly left the window keeps its width."""
        return self._drawn_width if self._lines_above else self._console.width

    def draw(self, lines: Sequence[str], *, only_last: bool = False) -> None:
        """Show `lines`; those that do not fit the window scroll out, or `only_last` omits them."""
        n_lines = max(1, self._console.height - _FREE_LINES)
        if only_last:
            self._redraw_lines(lines[-n_lines:])
            return
        lines = self._omit_lines_above(lines)
        self._redraw_lines(lines)
        self._lines_above += lines[:-n_lines]
        self._lines = list(lines[-n_lines:])

    def finish(self, lines: Sequence[str]) -> None:
        """Show `lines` for good; they may be wider than the terminal, which wraps them."""
        self._redraw_lines(self._omit_lines_above(lines))
        self._lines, self._lines_above = [], []

    def clear(self) -> None:
        """Remove the region; the cursor returns to where the region began."""
        self._redraw_lines([])

    def _omit_lines_above(self, lines: Sequence[str]) -> Sequence[str]:
        """Return the lines of a piece that are still to be drawn: all if those above changed."""
        n_above = len(self._lines_above)
        if list(map(strip_styles, lines[:n_above])) == list(map(strip_styles, self._lines_above)):
            return lines[n_above:]
        self._lines_above = []
        return lines

    def _redraw_lines(self, lines: Sequence[str]) -> None:
        """Replace the lines in the window by `lines`, from the first one that differs on."""
        width = self._console.width
        n_same = 0
        # In a window of another width every line may have moved: all of them are drawn again.
        if width == self._drawn_width:
            for old, new in zip(self._lines, lines, strict=False):
                if old != new:
                    break
                n_same += 1
        if n_same == len(self._lines) == len(lines):
            return
        n_up = sum(self._count_rows(line, width) for line in self._lines[n_same:])
        move_up = f"\x1b[{min(n_up, self._console.height - 1)}A{_CLEAR_BELOW}" if n_up else ""
        text = "".join(f"{_CLEAR_LINE}{line}\n" for line in lines[n_same:])
        self._console.file.write(f"{_SYNC_BEGIN}{move_up}{text}{_SYNC_END}")
        self._console.file.flush()
        self._lines, self._drawn_width = list(lines), width

    def _count_rows(self, line: str, width: int) -> int:
        """Return the rows that a drawn line takes now; a narrower window has wrapped it again."""
        if width >= self._drawn_width:
            return 1
        return max(1, -(-cell_len(strip_styles(line)) // width))


class MarkdownView(View):
    """Shows the events of one turn; use it as a context manager."""

    def __init__(
        self,
        out: Output,
        thoughts: str,
        clock: Callable[[], float] = time.perf_counter,
        *,
        shows_calls: bool = True,
    ) -> None:
        """`thoughts` is show, fold (to a line that counts their tokens) or hide.

        `clock` returns seconds. `shows_calls`: whether calls of tools are shown, as a part of the
        answer.
        """
        self._out, self._thoughts, self._clock = out, thoughts, clock
        self._shows_calls = shows_calls
        self._console = out.console()
        self._region = Region(self._console)
        self._reader, self._clean_text = BlockReader(), AnswerCleaner()
        self._highlighter = Highlighter("")
        self._has_printed = False  # anything of the answer
        self._next_draw_at = 0.0  # on `clock`
        self._thought_began_at = 0.0
        self._n_thought_events = 0  # of the current thought, about one for each token
        self._thought_ends_line = False

    def __enter__(self) -> MarkdownView:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end_thought()
        self._finish_text()
        if self._has_printed:
            self._console.print()

    def show(self, event: TurnEvent) -> None:
        """Show one event."""
        if isinstance(event, ThoughtText):
            self._show_thought(event.text)
            return
        self._end_thought()
        if isinstance(event, AnswerText):
            self._feed_text(self._clean_text(event.text))
        elif isinstance(event, CallMade):
            self._finish_text()
            if self._shows_calls:
                self._print_piece(CodeBegin("json", gap=True))
                self._print_piece(CodeLine(escape_invisible(format_call(event))))
                self._reader.feed("\n")  # a blank line before what follows
        elif isinstance(event, LoopNoticed):
            self._finish_text()
            self._out.warn(describe_notice(event))
        elif isinstance(event, PromptRead):
            self.show_waiting()

    def show_waiting(self) -> None:
        """Show that the model is at work. From here on only the view writes to the terminal."""
        self._show_status("...")

    def show_encoding(self, name: str) -> None:
        """Show that an image or audio file is being encoded."""
        self._show_status(f"encoding {one_line(name)} ...")

    def show_reading(self, done: int, total: int, _part: str) -> None:
        """Show how much of a long prompt is processed (a `Progress`)."""
        if total:
            self._show_status(f"reading {total:,} tokens: {100 * done // total} %")

    def _show_status(self, text: str) -> None:
        """Show one dim line until the next piece of the answer."""
        self._region.draw(render_lines(self._console, [Text(text, style="dim")]))

    def _feed_text(self, text: str) -> None:
        for piece in self._reader.feed(text):
            self._print_piece(piece)
        now = self._clock()
        if now >= self._next_draw_at:
            self._draw_pending()
            end = self._clock()
            self._next_draw_at = max(now + _REDRAW_S, end + _PAUSE_FACTOR * (end - now))

    def _finish_text(self) -> None:
        for piece in self._reader.finish():
            self._print_piece(piece)
        self._region.clear()

    def _print_piece(self, piece: Piece) -> None:
        """Print a finished piece in place of what the region shows of it."""
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
        """Draw what there is of the piece that is not finished."""
        block, width = self._reader.pending, self._region.width
        if not block.source.strip():
            if not self._reader.in_code:
                return  # the waiting dots stay until there is something to see
            lines: list[str] = []
        elif self._reader.in_code:
            rows = split_rows(Text(block.source.expandtabs(8)), width)
            lines = render_lines(self._console, rows)
        else:
            lines = render_markdown(self._console, block.source, width=width, indent=block.indent)
        if block.gap and self._has_printed and lines:
            lines.insert(0, "")
        # A new row may change all columns of a table, and a finished line of code is left to the
        # terminal to wrap: rows that had left the window would be drawn again below.
        self._region.draw(lines, only_last=self._reader.in_code or "|" in block.source)

    def _show_thought(self, text: str) -> None:
        if not self._n_thought_events:
            self._thought_began_at = self._clock()
            self._finish_text()  # what the answer says before
            if self._thoughts == "show":
                self._out.write_thought(THOUGHT_BEGINS)
        self._n_thought_events += 1
        if self._thoughts == "show":
            self._out.write_thought(text)
            self._thought_ends_line = text.endswith("\n")
        elif self._thoughts == "fold":
            n_tokens = count_text(self._n_thought_events, "token")
            self._show_status(f"thinking ... {n_tokens}")

    def _end_thought(self) -> None:
        if not self._n_thought_events:
            return
        seconds = self._clock() - self._thought_began_at
        self._region.clear()
        if self._thoughts == "show":
            self._out.write_thought(("" if self._thought_ends_line else "\n") + THOUGHT_ENDS)
        elif self._thoughts == "fold":
            n_tokens = count_text(self._n_thought_events, "token")
            self._out.say(f"thought for {duration_text(seconds)} ({n_tokens})")
        self._n_thought_events = 0


def make_view(out: Output, thoughts: str, *, shows_calls: bool = True) -> MarkdownView | PlainView:
    """Return a Markdown view, or a plain one for a terminal that cannot move its cursor.

    `shows_calls`: whether calls of tools are part of the answer; g4 shows those that it runs.
    """
    if not out.is_terminal or out.console().is_dumb_terminal:
        return PlainView(out, thoughts, shows_calls=shows_calls)
    return MarkdownView(out, thoughts, shows_calls=shows_calls)


def draw_turns(out: Output, turns: Sequence[Message]) -> None:
    """Draw the turns of a conversation, after it was loaded: all but thoughts."""
    for turn in turns:
        if turn.role == "user":
            for index, line in enumerate(turn.content.split("\n")):
                out.line(f"{'...' if index else '>>>'} {line}", style="bold")
            for medium in turn.media:
                out.line(f"    [{medium.kind}: {medium.path}]")
        elif turn.role == "tool":
            out.line(f"    [result of {turn.name}: {shorten_result(turn.content)}]")
        else:
            with make_view(out, "hide") as view:
                if turn.content:
                    view.show(AnswerText(turn.content))
                for call in turn.tool_calls:
                    view.show(CallMade(call))
