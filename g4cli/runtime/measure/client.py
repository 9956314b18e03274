"""Measurements in a worker process: if llama.cpp crashes, g4 reports an error and goes on."""

from __future__ import annotations

from typing import Any

from g4cli.core.progress import Progress, no_progress
from g4cli.runtime.engine.process import WorkerProcess
from g4cli.runtime.measure.messages import CODEC, RunBench, RunEvaluation, RunImatrix
from g4cli.runtime.measure.reports import BenchReport, Evaluation, ImatrixReport


def measure_speed(request: RunBench, progress: Progress = no_progress) -> BenchReport:
    """Return the figures of `run_bench`, called in a new process.

    Raises BadFile (llama.cpp crashed while it loaded a file), EngineMissing, RuntimeFailed or
    NoMemory.
    """
    report: BenchReport = _run_in_worker(request, progress)
    return report


def measure_quality(request: RunEvaluation, progress: Progress = no_progress) -> Evaluation:
    """Return the figures of `evaluate_model`, called in a new process.

    Raises what `measure_speed` raises, and BadFile if two models have different vocabularies.
    """
    evaluation: Evaluation = _run_in_worker(request, progress)
    return evaluation


def measure_importance(request: RunImatrix, progress: Progress = no_progress) -> ImatrixReport:
    """Write an importance matrix with `make_imatrix`, called in a new process; return its figures.

    Raises what `measure_speed` raises, and Interrupted on Ctrl-C.
    """
    report: ImatrixReport = _run_in_worker(request, progress)
    return report


def _run_in_worker(request: RunBench | RunEvaluation | RunImatrix, progress: Progress) -> Any:
    worker = WorkerProcess("g4cli.runtime.measure.worker", CODEC)
    worker.current_file = request.path
    try:
        worker.read_hello()
        return worker.ask(request, progress)
    finally:
        worker.close()
