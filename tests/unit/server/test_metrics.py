"""What /metrics says of the requests in progress."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from g4cli.operations.serving.counters import Counters
from g4cli.server.monitoring import report_metrics


# The second: their process died, and no turn has begun in the new one yet.
@pytest.mark.parametrize(("n_active", "n_processing"), [(4, 4), (0, 0), (6, 4)])
def test_requests_that_wait_are_not_counted_as_processed(n_active: int, n_processing: int) -> None:
    engine = SimpleNamespace(n_waiting=3, n_starts=1, active_turns=[None] * n_active)
    pool = SimpleNamespace(models={"m": SimpleNamespace(engine=engine, n_slots=4)})
    service: Any = SimpleNamespace(counters=Counters(), pool=pool)
    text = bytes(asyncio.run(report_metrics(service)).body).decode()
    assert f"llamacpp:requests_processing {n_processing}\n" in text
    assert "llamacpp:requests_deferred 3\n" in text
