"""The lock of a download: one holder, freed by the kernel, left by Ctrl-C."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from g4cli.core.errors import Interrupted, UsageError
from g4cli.core.paths import cache_dir
from g4cli.hub import lock
from g4cli.hub.lock import hold_lock

HOLDER = """
import sys, time
from pathlib import Path
from g4cli.hub.lock import hold_lock
with hold_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(target: Path) -> subprocess.Popen[bytes]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, target], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    return holder


@pytest.mark.slow
def test_kill_9_frees_the_lock(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    waited: list[str] = []
    with start_holder(target) as holder:

        def kill_holder() -> None:
            waited.append("once")
            holder.send_signal(signal.SIGKILL)

        with hold_lock(target, on_wait=kill_holder):
            assert waited == ["once"]


def test_waiting_can_be_given_up(tmp_path: Path) -> None:
    target = tmp_path / "m.gguf"
    with start_holder(target) as holder:
        with pytest.raises(Interrupted), hold_lock(target, cancelled=lambda: True):
            pass
        with hold_lock(tmp_path / "another.gguf"):  # every target has a lock of its own
            pass
        holder.kill()


def test_ctrl_c_ends_the_wait_and_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.gguf"

    def raise_interrupt(_: float) -> None:
        raise KeyboardInterrupt

    with start_holder(target) as holder:
        monkeypatch.setattr(lock.time, "sleep", raise_interrupt)
        with pytest.raises(KeyboardInterrupt), hold_lock(target):
            pass
        holder.kill()
    with hold_lock(target):
        pass


def test_a_folder_that_cannot_be_made_is_told() -> None:
    cache_dir().parent.mkdir(parents=True, exist_ok=True)
    cache_dir().write_text("a file where the cache should be")
    with pytest.raises(UsageError, match="cannot be written"), hold_lock(Path("m.gguf")):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_without(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_lock(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(lock.FileLock, "acquire", refuse_lock)
    entered = False
    with hold_lock(tmp_path / "m.gguf"):
        entered = True
    assert entered
