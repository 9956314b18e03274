"""Several jobs at once: their results in order, their first failure, one Ctrl-C for all."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from g4cli.core.errors import Interrupted
from g4cli.hub.together import Cancelled, Job, run_together


def test_results_come_in_order_and_jobs_overlap() -> None:
    meeting = threading.Barrier(3, timeout=60)

    def job(n: int) -> Job:
        def run(_: Cancelled) -> int:
            meeting.wait()  # only if all three run at once
            return n

        return run

    assert run_together([job(n) for n in range(3)]) == [0, 1, 2]
    assert run_together([]) == []


def test_a_failure_lets_the_others_end() -> None:
    ended: list[str] = []

    def fail_job(_: Cancelled) -> None:
        raise ValueError("first")

    def finish_job(cancelled: Cancelled) -> None:
        time.sleep(0.05)
        assert not cancelled()
        ended.append("good")

    with pytest.raises(ValueError, match="first"):
        run_together([finish_job, fail_job])
    assert ended == ["good"]


@pytest.mark.slow
def test_ctrl_c_ends_them_all() -> None:
    def job(cancelled: Cancelled) -> None:
        while not cancelled():
            time.sleep(0.01)
        raise Interrupted("kept")

    def press(cancelled: Cancelled) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        job(cancelled)

    with pytest.raises(Interrupted, match="kept"):
        run_together([job, press])

    def fail_job(_: Cancelled) -> None:
        raise ValueError("before")

    with pytest.raises(Interrupted, match="kept"):
        run_together([fail_job, press])
    with pytest.raises(KeyboardInterrupt):
        run_together([lambda _: os.kill(os.getpid(), signal.SIGINT) or time.sleep(0.3)])
