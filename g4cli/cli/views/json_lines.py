"""An answer as JSON lines while it is written, for `g4 chat --stream-json`. The lines are:

{"type": "start", "model": "tiny", "n_ctx": 2048}
{"type": "thought", "text": "..."}       a piece of the thought
{"type": "text", "text": "..."}          a piece of the answer; both have "tokens" with --logprobs
{"type": "tool", "name": "...", "arguments": {...}}    a tool call
{"type": "loop", "unit": "...", ...}     the answer repeats itself: before the end, if that stopped
                                         it, else when it was noticed (--on-loop warn)
{"type": "retry", "unit": "...", "text": "...", ...}   the answer was cut back to this text
{"type": "end", "finish_reason": "stop", "usage": {...}, "timing": {...}}
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from g4cli.chat import LoopNoticed, TurnEvent, View
from g4cli.cli.views.reply import loop_to_json
from g4cli.core.visible import json_text
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtText, tokens_to_json


class JsonLinesView(View):
    """Writes each event of a turn as a line of JSON to standard output."""

    def __enter__(self) -> JsonLinesView:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Nothing is held back."""

    def start(self, model: str, n_ctx: int) -> None:
        """Write the first line."""
        _write_line({"type": "start", "model": model, "n_ctx": n_ctx})

    def show(self, event: TurnEvent) -> None:
        """Write an event, if a reader can use it."""
        if isinstance(event, (AnswerText, ThoughtText)):
            kind = "text" if isinstance(event, AnswerText) else "thought"
            tokens = {"tokens": tokens_to_json(event.tokens)} if event.tokens else {}
            _write_line({"type": kind, "text": event.text, **tokens})
        elif isinstance(event, LoopNoticed):
            loop = loop_to_json(event.loop)
            # What is left of the answer, from its beginning.
            left = {"text": event.text, "thought": event.thought} if event.retried else {}
            _write_line({"type": "retry" if event.retried else "loop", **(loop or {}), **left})
        elif isinstance(event, CallMade):
            arguments = dict(event.call.arguments)
            _write_line({"type": "tool", "name": event.call.name, "arguments": arguments})

    def end(self, data: Mapping[str, Any]) -> None:
        """Write the last lines, from `data`, which is the document of `g4 chat --json`."""
        if data["loop"] and data["finish_reason"] == "loop":
            _write_line({"type": "loop", **data["loop"]})
        # The other fields are what earlier lines have told.
        fields = ("finish_reason", "usage", "timing", "sampling", "conversation")
        _write_line({"type": "end", **{name: data[name] for name in fields if name in data}})


def _write_line(row: Mapping[str, Any]) -> None:
    sys.stdout.write(json_text(row, ascii_only=True) + "\n")
    sys.stdout.flush()
