"""Messages between `g4 bench`, `eval` or `imatrix` and the worker process that measures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.prompt.messages import Message
from g4cli.runtime.engine.codec import Codec
from g4cli.runtime.engine.messages import COMMON, Hello, Opening
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

    `model` is how it is loaded, and the model to compare with too.
    """

    path: Path
    model: ModelOptions
    conversations: tuple[tuple[Message, ...], ...]
    against: Path | None
    n_threads: int


@dataclass(frozen=True, slots=True)
class RunImatrix:
    """Asks for an importance matrix in the file `out`, and its ImatrixReport.

    `n_chunks` 0: all chunks of the text. The importance matrices `in_files` are added.
    `partial_file` holds what is done, written every `save_every_s` seconds; `job` says what it
    belongs to: all that changes the result.
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


CODEC: Final = Codec(
    (
        *COMMON, Hello, Opening, RunBench, RunEvaluation, RunImatrix, BenchReport, Evaluation,
        ImatrixReport,
    )
)  # fmt: skip
