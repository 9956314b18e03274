"""The devices that g4 sees are those of the libggml that libllama uses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from g4cli.core.child import run_child
from g4cli.core.errors import UsageError
from g4cli.runtime.llama.rpc import choose_worker_devices


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_libggml_is_loaded() -> None:
    """A wheel has copies where a build has links: another copy would have no device in common."""
    done, status = run_child(
        "tests.support.run.loaded_libraries", text="", timeout_s=60, memory_bytes=1 << 30
    )
    assert status == 0
    loaded = [line for line in done.stdout.split() if Path(line).name.startswith("libggml.")]
    assert len(loaded) == 1


def test_a_worker_finds_a_device_in_any_case() -> None:
    assert choose_worker_devices("cpu") == choose_worker_devices("CPU") == (("CPU", "cpu"),)
    with pytest.raises(UsageError, match="no device 'gpu9'; this build sees"):
        choose_worker_devices("gpu9")
