"""The messages between `g4 bench` or `g4 eval` and the worker process that measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.prompt.messages import Message
from g4cli.runtime.engine.codec import Codec
from g4cli.runtime.engine.messages import COMMON, Hello, Opening
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.measure.reports import BenchOptions, BenchReport, Evaluation


@dataclass(frozen=True, slots=True)
class RunBench:
    """Asks for the BenchReport of the model at `path`."""

    path: Path
    model: ModelOptions
    options: BenchOptions


@dataclass(frozen=True, slots=True)
class RunEvaluation:
    """Asks for the Evaluation of the model at `path` on the last turn of each conversation."""

    path: Path
    conversations: tuple[tuple[Message, ...], ...]
    against: Path | None
    use_extra_bufts: bool
    n_threads: int


CODEC: Final = Codec((*COMMON, Hello, Opening, RunBench, RunEvaluation, BenchReport, Evaluation))
