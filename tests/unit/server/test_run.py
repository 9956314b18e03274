"""The address that a server tells its clients, and what it does while nobody asks."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from g4cli.server.run import StoppableServer, make_url


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("192.168.0.2", "http://192.168.0.2:80"),
    ],
)
def test_an_address_of_all_networks_is_told_as_one_of_this_machine(host: str, url: str) -> None:
    listener: Any = SimpleNamespace(getsockname=lambda: (host, 80))
    assert make_url(listener) == url


def test_an_idle_server_wakes_up_once_a_second_and_stops_at_once() -> None:
    ticks = 0

    class Counted(StoppableServer):
        async def on_tick(self, counter: int) -> bool:
            nonlocal ticks
            ticks += 1
            return await super().on_tick(counter)

    async def run() -> None:
        server = Counted(uvicorn.Config(lambda: None))
        running = asyncio.ensure_future(server.main_loop())
        started = time.monotonic()
        await asyncio.sleep(0.35)
        assert 1 <= ticks <= 1 + (time.monotonic() - started)
        server.stop()
        await asyncio.wait_for(running, 60)

    asyncio.run(run())
