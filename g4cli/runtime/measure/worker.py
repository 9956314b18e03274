"""The worker process of `g4 bench`, `eval` and `imatrix`, started by `measure.client`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from g4cli.core.errors import G4Error
from g4cli.runtime.engine.messages import Hello, Opening
from g4cli.runtime.engine.service import Service
from g4cli.runtime.llama.library import load_llama
from g4cli.runtime.measure.bench import run_bench
from g4cli.runtime.measure.evaluate import evaluate_model
from g4cli.runtime.measure.imatrix import make_imatrix
from g4cli.runtime.measure.messages import CODEC, RunBench, RunEvaluation, RunImatrix


def main() -> None:
    """Serve the process that started this one."""
    service = Service(CODEC)

    # Tells the other process which file is being loaded: a crash is blamed on it.
    def send_opening(path: Path | None) -> None:
        service.send_answer(Opening(path))

    measurements: dict[type[Any], Any] = {
        RunBench: run_bench,
        RunEvaluation: evaluate_model,
        RunImatrix: partial(make_imatrix, interrupt=service.interrupt),
    }

    def answer_request(request: Any) -> Iterator[Any]:
        measure = measurements[type(request)]
        yield measure(request, progress=service.progress, opening=send_opening)

    try:
        load_llama()
    except G4Error as err:
        service.fail_request(err)
        return
    service.send_answer(Hello())
    # For each type of request, the function that yields its answers.
    service.serve_requests(dict.fromkeys(measurements, answer_request))


if __name__ == "__main__":
    main()
