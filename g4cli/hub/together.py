"""Run several downloads at once, each in a thread of its own; Ctrl-C ends all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from g4cli.core.errors import Interrupted

Cancelled: TypeAlias = Callable[[], bool]
"""Returns whether a job has to stop."""
Job: TypeAlias = Callable[[Cancelled], Any]
_TICK_S: Final = 0.1  # a choice


def run_together(jobs: Sequence[Job]) -> list[Any]:
    """Return the results of `jobs`, in order.

    Each job is called with a function that returns whether it has to stop. A failure does not stop
    the other jobs, because their files are wanted in any case; the first failure is raised when all
    have ended. Ctrl-C stops all, and the first Interrupted of them is raised.
    """
    results: list[Any] = [None] * len(jobs)
    errors: list[BaseException | None] = [None] * len(jobs)
    stop = threading.Event()

    def run_job(index: int) -> None:
        try:
            results[index] = jobs[index](stop.is_set)
        except BaseException as err:  # raised again in the main thread
            errors[index] = err

    threads = [threading.Thread(target=run_job, args=[i], daemon=True) for i in range(len(jobs))]
    try:
        for thread in threads:
            thread.start()
        _join_all(threads)
    except KeyboardInterrupt:
        stop.set()
        _join_all(threads)
        raise next((e for e in errors if isinstance(e, Interrupted)), KeyboardInterrupt()) from None
    for err in errors:
        if err is not None:
            raise err
    return results


def _join_all(threads: Sequence[threading.Thread]) -> None:
    # With a timeout, so that Ctrl-C is seen at once.
    for thread in threads:
        while thread.is_alive():
            thread.join(_TICK_S)
