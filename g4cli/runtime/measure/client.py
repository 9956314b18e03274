"""Measurements in a worker process: if llama.cpp crashes, g4 reports an error and goes on."""

from __future__ import annotations

from g4cli.core.progress import Progress, no_progress
from g4cli.runtime.engine.process import WorkerProcess
from g4cli.runtime.measure.messages import CODEC, Measurement, R


def run_measurement(request: Measurement[R], progress: Progress = no_progress) -> R:
    """Return the report on a model, made in a new process (`measure.worker`).

    Raises BadFile (llama.cpp crashed while it loaded a file, or two models to compare have
    different vocabularies), EngineMissing, RuntimeFailed or NoMemory, and Interrupted on Ctrl-C.
    """
    worker = WorkerProcess("g4cli.runtime.measure.worker", CODEC)
    worker.current_file = request.path
    try:
        worker.read_hello()
        report: R = worker.ask(request, progress)
        return report
    finally:
        worker.close()
