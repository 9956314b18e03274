"""A streamed answer as plain text: for pipes, and for terminals that cannot move the cursor."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from g4cli.chat import LoopNoticed, TurnEvent, View
from g4cli.cli.views.reply import describe_notice, format_call
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtEnded, ThoughtText

if TYPE_CHECKING:
    from g4cli.cli.output import Output

# Words mark a thought, since colors are lost with NO_COLOR, TERM=dumb and in copied text.
THOUGHT_BEGINS: Final = "thinking:\n"
THOUGHT_ENDS: Final = "... done thinking.\n\n"


class PlainView(View):
    """Writes the answer to standard output as it is, and thoughts to standard error."""

    def __init__(
        self, out: Output, thoughts: str, *, streams: bool = True, shows_calls: bool = True
    ) -> None:
        """`thoughts` is show, fold or hide; here only "show" shows them.

        `streams`: whether the answer itself is written while it is generated; `shows_calls`:
        whether tool calls are written as a part of it.
        """
        self._out, self._streams, self._shows_calls = out, streams, shows_calls
        self._show_thoughts = thoughts == "show" and out.is_human
        self._ends_line = True
        self._thought = ""
        # In a file, standard error holds the thoughts alone: they need no mark.
        self._mark_thoughts = sys.stderr.isatty()

    def show(self, event: TurnEvent) -> None:
        """Write the text of one event of the turn."""
        if self._out.mode == "json":
            return
        if isinstance(event, (AnswerText, CallMade)) and not self._streams:
            return
        if isinstance(event, LoopNoticed):
            self.end_line()
            self._out.warn(describe_notice(event))
        elif isinstance(event, AnswerText):
            self._out.stream(event.text)
            self._ends_line = event.text.endswith("\n")
        elif isinstance(event, CallMade) and self._shows_calls:
            self._out.stream(format_call(event) + "\n")
            self._ends_line = True
        elif isinstance(event, ThoughtText) and self._show_thoughts:
            if not self._thought and self._mark_thoughts:
                self._out.write_thought(THOUGHT_BEGINS)
            self._thought += event.text
            self._out.write_thought(event.text)
        elif isinstance(event, ThoughtEnded):
            self._end_thought()

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end_thought()
        self.end_line()

    def _end_thought(self) -> None:
        if not self._thought:
            return
        newline = "" if self._thought.endswith("\n") and self._mark_thoughts else "\n"
        self._out.write_thought(newline + (THOUGHT_ENDS if self._mark_thoughts else ""))
        self._thought = ""

    def end_line(self) -> None:
        """End the last line of the answer."""
        if not self._ends_line:
            self._out.stream("\n")
            self._ends_line = True
