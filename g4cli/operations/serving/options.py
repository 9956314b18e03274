"""What `g4 serve` is asked to do, apart from HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from g4cli.core.errors import UsageError
from g4cli.operations.chat.request import ChatRequest

MAX_PARALLEL: Final = 64  # a choice; llama.cpp allows 256 (LLAMA_MAX_SEQ)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Which models are served, how they are loaded and answer, and how long they stay.

    `models` as `g4 chat` takes them; none: all of the store. `aliases` are further names of the
    first. `chat` says how each model is loaded, and how it answers requests that say nothing else;
    its `ctx` is that of one request, its `model` is not used, and its `on_loop` is not
    "retry": what was sent cannot be taken back. `parallel` is how many requests a model computes at
    once; 0: as many as fit, at most 4. `media_cache`: whether encoded images and sounds are kept
    for later requests. `keep_alive_s` below 0: models stay loaded. `max_models` 0: as many as fit,
    but one with workers. `queue`: how many requests of a model may wait for a slot.
    """

    models: Sequence[str] = ()
    aliases: Sequence[str] = ()
    chat: ChatRequest = field(default_factory=ChatRequest)
    parallel: int = 0
    media_cache: bool = True
    keep_alive_s: float = 1800.0
    max_models: int = 0
    queue: int = 64


def parse_parallel(text: str) -> int:
    """Return the number of --parallel, 0 for "auto". Raises UsageError."""
    if text == "auto":
        return 0
    if not (text.isdecimal() and len(text) < 10 and 1 <= int(text) <= MAX_PARALLEL):
        raise UsageError(
            f"not a number of requests from 1 to {MAX_PARALLEL}: {text!r:.40}",
            hint="--parallel auto",
        )
    return int(text)
