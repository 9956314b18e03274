"""What /metrics and /slots say of the requests in progress."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from g4cli.operations.serving.service import Counters
from g4cli.server.errors import HttpError
from g4cli.server.monitoring import list_slots, report_metrics


# The second: their process died, and no turn has begun in the new one yet.
@pytest.mark.parametrize(("n_active", "n_processing"), [(4, 4), (0, 0), (6, 4)])
def test_requests_that_wait_are_not_counted_as_processed(n_active: int, n_processing: int) -> None:
    engine = SimpleNamespace(n_waiting=3, n_starts=1, active_turns=[None] * n_active)
    pool = SimpleNamespace(models={"m": SimpleNamespace(engine=engine, n_slots=4)})
    service: Any = SimpleNamespace(counters=Counters(), pool=pool)
    text = bytes(asyncio.run(report_metrics(service)).body).decode()
    assert f"llamacpp:requests_processing {n_processing}\n" in text
    assert "llamacpp:requests_deferred 3\n" in text


def test_who_needs_a_free_slot_is_told_that_there_is_none() -> None:
    turns = [SimpleNamespace(slot=slot, number=7, prompt_tokens=5) for slot in (0, 1)]
    model = SimpleNamespace(name="m", n_ctx=512, n_slots=2)
    service: Any = SimpleNamespace(pool=SimpleNamespace(models={"m": model}))
    for n_busy in (2, 1):
        model.engine = SimpleNamespace(active_turns=turns[:n_busy])
        slots = asyncio.run(list_slots(service))
        assert [slot["is_processing"] for slot in slots] == [True, n_busy == 2]
        if n_busy == 2:
            with pytest.raises(HttpError, match="no slot is free"):
                asyncio.run(list_slots(service, "1"))
        else:
            assert asyncio.run(list_slots(service, "1")) == slots
