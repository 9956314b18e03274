"""`g4 serve` in a process of its own, as a user starts it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.run.server import wait_until

PROGRAM = "from g4cli.cli.start import main; main()"


@contextmanager
def start_server(*args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Yield the process of `g4 serve ARGS` and its address; it is killed after the block."""
    command = [sys.executable, "-c", PROGRAM, "serve", *args, "--port", "0", "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        lines = []
        while not lines or lines[-1] != "}":
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            lines.append(line.rstrip("\n"))
        url = json.loads("".join(lines))["url"]
        wait_until(lambda: httpx.get(f"{url}/health").status_code == 200, 60)
        yield process, url
    finally:
        process.kill()
        process.communicate()
