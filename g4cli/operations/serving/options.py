"""What `g4 serve` is asked to do, apart from HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How models are loaded and how long they stay.

    `models` as `g4 chat` takes them; none: all of the store. `aliases` are further names of the
    first. `ctx`, `gpu_layers`, `draft` and `threads` as in ChatRequest; `ctx` is that of one
    request. `parallel` is how many requests a model computes at once; 0: as many as fit, at most
    4. `keep_alive_s` below 0: models stay loaded. `sampling` holds defaults by the names of the
    engine's Sampling.
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
    mmproj: Path | None = None
    image_tokens: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int = 0
    stop_on_loop: bool = True
    keep_alive_s: float = 1800.0
    max_models: int = 0
    queue: int = 64
