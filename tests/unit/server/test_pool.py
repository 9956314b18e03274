"""Models are opened on demand and closed when nobody uses them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from g4cli.operations.serving.loaded import LoadedModel
from g4cli.operations.serving.pool import ModelPool


class FakeEngine:
    """An engine that can only be closed."""

    async def close(self) -> None:
        """Do nothing."""


def test_no_request_gets_a_model_that_is_about_to_be_closed() -> None:
    async def open_model(name: str, _others: Sequence[str]) -> LoadedModel:
        fakes: Any = (FakeEngine(), None, None)
        return LoadedModel(name, *fakes)

    async def acquire_when_timer_fires() -> dict[str, LoadedModel]:
        pool = ModelPool(open_model, keep_alive_s=0.0)
        pool.release(await pool.acquire("m"))
        left: list[dict[str, LoadedModel]] = []
        seconds = pool.seconds_left("m")
        assert seconds is not None
        # Called in the same turn of the event loop as the timer, right behind it.
        asyncio.get_running_loop().call_later(
            seconds + 0.01, lambda: left.append(dict(pool.models))
        )
        time.sleep(seconds + 0.05)
        await asyncio.sleep(0.01)
        await pool.close()
        return left[0]

    assert asyncio.run(acquire_when_timer_fires()) == {}
