"""A unit test stays in its process: it starts no other and does not load llama.cpp.

What needs either is an integration test. `libggml-base`, by which g4 encodes weights, is no model
and may be loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

STARTS = ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system")
LIBRARIES = ("libllama", "libmtmd")

_in_unit_test = False


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    if not _in_unit_test:
        return
    if event in STARTS:
        raise AssertionError(f"a unit test starts a process ({event}): move it to integration/")
    # Python reports a library when it is loaded first; the unit tests run before all others.
    if event == "ctypes.dlopen" and Path(str(args[0])).name.startswith(LIBRARIES):
        raise AssertionError(f"a unit test loads {args[0]}: move it to tests/integration")


sys.addaudithook(_refuse)  # Python can only add hooks, so this one is switched


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have no GPU: llama.cpp would be asked for it, in a process."""
    monkeypatch.setattr("g4cli.host.list_gpu_nodes", lambda *_: ())


@pytest.fixture(autouse=True)
def one_process() -> Iterator[None]:
    """Refuse new processes and llama.cpp while a unit test runs."""
    global _in_unit_test
    _in_unit_test = True
    yield
    _in_unit_test = False
