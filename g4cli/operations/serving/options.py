"""What `g4 serve` is asked to do, apart from HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from g4cli.core.errors import UsageError
from g4cli.core.worker_address import NO_WORKERS, WorkerOptions

if TYPE_CHECKING:
    from g4cli.chat import OnLoop

MAX_PARALLEL: Final = 64  # a choice; llama.cpp allows 256 (LLAMA_MAX_SEQ)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How models are loaded and how long they stay.

    `models` as `g4 chat` takes them; none: all of the store. `aliases` are further names of the
    first. `ctx`, `gpu_layers`, `draft`, `state_cache` and `threads` as in ChatRequest; `ctx` is
    that of one request. `parallel` is how many requests a model computes at once; 0: as many as
    fit, at most 4. `on_loop` is "stop" or "warn": what was sent cannot be taken back.
    `keep_alive_s` below 0: models stay loaded. `max_models` 0: as many as fit. `queue`: how many
    requests of a model may wait for a slot. `media_cache`: whether encoded images and sounds are
    kept for later requests. `sampling` holds defaults by the names of the engine's Sampling. With
    `workers` one model is loaded at a time.
    """

    models: Sequence[str] = ()
    aliases: Sequence[str] = ()
    ctx: str = ""
    parallel: int = 0
    kv_type: str = "f16"
    threads: int = 0
    gpu_layers: str = "auto"
    device: str | None = None
    mmap: bool = True
    cpu_moe: bool = False
    draft: str = "auto"
    state_cache: str = "auto"
    mmproj: Path | None = None
    image_tokens: int | None = None
    media_cache: bool = True
    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int = 0
    stop_on_loop: bool = True
    on_loop: OnLoop = "stop"
    keep_alive_s: float = 1800.0
    max_models: int = 0
    queue: int = 64
    workers: WorkerOptions = NO_WORKERS


def parse_parallel(text: str) -> int:
    """Return the number of --parallel, 0 for "auto". Raises UsageError."""
    if text == "auto":
        return 0
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PARALLEL:
        raise UsageError(
            f"not a number of requests from 1 to {MAX_PARALLEL}: {text!r:.40}",
            hint="--parallel auto",
        )
    return int(text)
