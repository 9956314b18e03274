"""Children of g4: what they may import, what they are told, and when they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from g4cli.core.child import ChildLimits, child_environment, run_child, start_child
from tests.support.paths import ROOT

# What the children of g4 import, and what a hostile folder would therefore plant.
PLANTED = (
    "json", "struct", "ctypes", "random", "inspect", "numpy", "g4cli", "llama_cpp", "jinja2", "runpy",
    "threading", "signal", "resource", "dataclasses", "typing", "pathlib", "platform", "hashlib", "re",
)  # fmt: skip


@pytest.fixture
def hostile_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder whose modules leave a mark when they are imported."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in PLANTED:
        code = f"open({str(folder / 'PWNED')!r}, 'a').write({name!r})\n"
        if name in ("numpy", "g4cli", "llama_cpp"):
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(code)
        else:
            (folder / f"{name}.py").write_text(code)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    "module",
    [
        "g4cli.runtime.llama.devices",
        "g4cli.runtime.probes.doctor_child",
        "g4cli.runtime.probes.kernel_child",
    ],
)
def test_nothing_in_the_current_folder_is_imported(hostile_folder: Path, module: str) -> None:
    run_child(module, timeout_s=60)
    assert not (hostile_folder / "PWNED").exists()


def test_the_trap_works(hostile_folder: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "g4cli.runtime.llama.devices"], check=False, capture_output=True
    )
    assert (hostile_folder / "PWNED").exists()


def test_a_path_that_is_relative_is_not_passed_on(
    hostile_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", ["", ".", str(hostile_folder), *sys.path])
    run_child("g4cli.runtime.llama.devices", timeout_s=60)
    assert not (hostile_folder / "PWNED").exists()


def test_secrets_stay_with_the_parent() -> None:
    given = {
        "PATH": "/bin",
        "HF_TOKEN": "hf_x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "G4_HOME": "/h",
        "LC_ALL": "C",
        "G4_API_KEY": "x",
        "CUDA_VISIBLE_DEVICES": "0",
        "PYTHONPATH": "/evil",
    }
    kept = child_environment(given)
    assert set(kept) == {"PATH", "G4_HOME", "LC_ALL", "CUDA_VISIBLE_DEVICES", "GGML_NO_BACKTRACE"}


def wait_until_gone(pid: int, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":  # it has ended; nobody has asked for its status yet
            return True
        time.sleep(0.02)
    return False


# A parent that starts a child which never ends, from its main thread or from another.
PARENT = """
import sys, threading, time
sys.path.insert(0, {root!r})
from g4cli.core.child import start_child
def start():
    child = start_child("g4cli.runtime.probes.doctor_child", ignore_interrupt=True)
    print(child.pid, flush=True)
    time.sleep(600)
{how}
"""


@pytest.mark.requires_linux
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "how", ["start()", "threading.Thread(target=start).start(); time.sleep(600)"]
)
def test_a_child_ends_with_its_parent(sent: signal.Signals, how: str) -> None:
    root = str(ROOT)
    code = PARENT.format(root=root, how=how)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.send_signal(sent)
        parent.wait()
        assert wait_until_gone(pid)


def test_limits_are_those_of_the_kernel() -> None:
    limits = ChildLimits(address_bytes=1 << 33, cpu_seconds=77)
    with start_child("g4cli.runtime.probes.doctor_child", limits=limits) as child:
        assert child.stdin
        assert child.stdout
        assert child.poll() is None
        if sys.platform == "linux":
            text = wait_for_limit(child.pid, "Max cpu time", "77")
            assert text.split()[3] == "77"
    assert child.returncode == -signal.SIGKILL


def wait_for_limit(pid: int, name: str, value: str) -> str:
    """Return the line of /proc/PID/limits once the child has set it."""
    for _ in range(1000):
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        line = next(line for line in lines if line.startswith(name))
        if value in line.split():
            return line
        time.sleep(0.01)
    raise AssertionError(f"{name} was never {value}")


@pytest.mark.requires_linux
def test_pipes_and_the_lifeline_are_closed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        seen, status = run_child(
            "g4cli.runtime.probes.doctor_child", text=json.dumps({"task": "none"}), timeout_s=30
        )
        assert status != 0
        assert seen.stderr
    assert len(os.listdir("/proc/self/fd")) == before
