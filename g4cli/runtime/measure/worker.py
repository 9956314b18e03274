"""The worker process of `g4 bench`, `eval` and `imatrix`, started by `measure.client`."""

from __future__ import annotations

from collections.abc import Iterator
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

    def send_opening(path: Path | None) -> None:
        service.send_answer(Opening(path))

    def answer_bench(request: RunBench) -> Iterator[Any]:
        yield run_bench(
            request.path,
            request.model,
            request.options,
            progress=service.progress,
            opening=send_opening,
        )

    def answer_evaluation(request: RunEvaluation) -> Iterator[Any]:
        yield evaluate_model(
            request.path,
            request.conversations,
            against=request.against,
            model_options=request.model,
            n_threads=request.n_threads,
            progress=service.progress,
            opening=send_opening,
        )

    def answer_imatrix(request: RunImatrix) -> Iterator[Any]:
        yield make_imatrix(
            request, service.interrupt, progress=service.progress, opening=send_opening
        )

    try:
        load_llama()
    except G4Error as err:
        service.fail_request(err)
        return
    service.send_answer(Hello())
    service.serve_requests(
        {
            RunBench: answer_bench,
            RunEvaluation: answer_evaluation,
            RunImatrix: answer_imatrix,
        }
    )


if __name__ == "__main__":
    main()
