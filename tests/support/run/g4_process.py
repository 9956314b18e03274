"""g4 in a process of its own, as a user starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PROGRAM = "from g4cli.cli.start import main; main()"


@contextmanager
def start_g4(*args: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Yield the process of `g4 ARGS --json`, and the JSON document that it prints when it is ready.

    It is the leader of a process group, which is killed after the block.
    """
    command = [sys.executable, "-c", PROGRAM, *args, "--json"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        lines: list[str] = []
        while not lines or lines[-1] != "}":
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            lines.append(line.rstrip("\n"))
        yield process, json.loads("".join(lines))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
