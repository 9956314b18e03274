"""Messages between `g4 bench`, `eval` or `imatrix` and the worker process that measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from g4cli.prompt.messages import Message
from g4cli.runtime.engine.codec import Codec
from g4cli.runtime.engine.messages import COMMON
from g4cli.runtime.engine.options import ModelOptions
from g4cli.runtime.measure.calibration_text import CalibrationText
from g4cli.runtime.measure.reports import BenchOptions, BenchReport, Evaluation, ImatrixReport

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Measurement(Generic[R]):
    """Asks for the report `R` on the model at `path`, loaded as `model` says."""

    path: Path
    model: ModelOptions


@dataclass(frozen=True, slots=True)
class RunBench(Measurement[BenchReport]):
    """Asks for the speeds of a model."""

    options: BenchOptions


@dataclass(frozen=True, slots=True)
class RunEvaluation(Measurement[Evaluation]):
    """Asks how well a model predicts the last turn of each conversation.

    The model to compare with is loaded in the same way. `n_threads`: as in BenchOptions.
    """

    conversations: tuple[tuple[Message, ...], ...]
    against: Path | None = None
    n_threads: int = 0


@dataclass(frozen=True, slots=True)
class RunImatrix(Measurement[ImatrixReport]):
    """Asks for an importance matrix in the file `out`.

    A chunk is `n_ctx` tokens of the text; `n_chunks` 0: all. The importance matrices `in_files` are
    added. `partial_file` holds what is done, written every `save_every_s` seconds; `job` says what
    it belongs to: all that changes the result. `n_threads`: as in BenchOptions.
    """

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
