"""`g4 serve` in a process of its own, as a user starts it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.run.g4_process import start_g4
from tests.support.run.server import wait_until


@contextmanager
def start_server(*args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield the process of `g4 serve ARGS` and its address; it is killed after the block."""
    with start_g4("serve", *args, "--port", "0") as (process, document):
        url = document["url"]
        wait_until(lambda: httpx.get(f"{url}/health", timeout=60).status_code == 200, 60)
        yield process, url
