"""Measurements in a worker process: a file that crashes llama.cpp ends with an error, not with g4."""

from __future__ import annotations

from typing import Any

from g4cli.core.progress import Progress, no_progress
from g4cli.runtime.engine.process import Worker
from g4cli.runtime.measure.messages import CODEC, RunBench, RunEvaluation
from g4cli.runtime.measure.reports import BenchReport, Evaluation


def measure_speed(request: RunBench, progress: Progress = no_progress) -> BenchReport:
    """Return the figures of a bench, run in a process that ends with it.

    Raises BadFile (llama.cpp crashed while it loaded a file), EngineMissing, RuntimeFailed or
    NoMemory.
    """
    report: BenchReport = _answer(request, progress)
    return report


def measure_quality(request: RunEvaluation, progress: Progress = no_progress) -> Evaluation:
    """Return the figures of an evaluation, run in a process that ends with it.

    Raises what `measure_speed` raises, and BadFile if two models have different vocabularies.
    """
    found: Evaluation = _answer(request, progress)
    return found


def _answer(request: RunBench | RunEvaluation, progress: Progress) -> Any:
    worker = Worker("g4cli.runtime.measure.worker", CODEC)
    worker.subject = request.path
    try:
        worker.read_hello()
        return worker.ask(request, progress)
    finally:
        worker.close()
