"""Messages between `g4 bench`, `eval` or `imatrix` and the worker process that measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.prompt.messages import Message
from g4cli.runtime.engine.codec import Codec
from g4cli.runtime.engine.messages import COMMON
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.measure.calibration_text import CalibrationText
from g4cli.runtime.measure.reports import BenchOptions, BenchReport, Evaluation, ImatrixReport


@dataclass(frozen=True, slots=True)
class RunBench:
    """Asks for the BenchReport of the model at `path`."""

    path: Path
    model: ModelOptions
    options: BenchOptions


@dataclass(frozen=True, slots=True)
class RunEvaluation:
    """Asks for the Evaluation of the model at `path` on the last turn of each conversation.

    `model` is how it is loaded, and the model to compare with too. `n_threads`: as in BenchOptions.
    """

    path: Path
    model: ModelOptions
    conversations: tuple[tuple[Message, ...], ...]
    against: Path | None = None
    n_threads: int = 0


@dataclass(frozen=True, slots=True)
class RunImatrix:
    """Asks for an importance matrix in the file `out`, and its ImatrixReport.

    A chunk is `n_ctx` tokens of the text; `n_chunks` 0: all. The importance matrices `in_files` are
    added. `partial_file` holds what is done, written every `save_every_s` seconds; `job` says what
    it belongs to: all that changes the result. `n_threads`: as in BenchOptions.
    """

    path: Path
    model: ModelOptions
    text: CalibrationText
    out: Path
    partial_file: Path
    job: str
    n_ctx: int
    n_chunks: int
    in_files: tuple[Path, ...]
    n_threads: int
    save_every_s: float


# All messages of both directions.
CODEC: Final = Codec(
    (*COMMON, RunBench, RunEvaluation, RunImatrix, BenchReport, Evaluation, ImatrixReport)
)
