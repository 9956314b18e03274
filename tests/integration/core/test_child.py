"""Children of g4: what they may import, what they are told, and when they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from g4cli.core import child as child_module
from g4cli.core.child import ChildLimits, child_environment, run_child, start_child
from g4cli.core.child_memory import ChildOutput, communicate
from tests.support.paths import ROOT
from tests.support.run.process import wait_until_gone

# Everything that a child might import, and what a hostile folder would therefore plant.
PACKAGES = (
    "numpy",
    "g4cli",
    "llama_cpp",
    "llguidance",
    "jinja2",
    "resvg_py",
    "PIL",
    "markupsafe",
    "huggingface_hub",
    "quant",
    "converters",
)
PLANTED = (*sorted(sys.stdlib_module_names), *PACKAGES)
CHILDREN = (
    "g4cli.runtime.llama.devices",
    "g4cli.runtime.probes.doctor_child",
    "g4cli.runtime.probes.kernel_child",
    "g4cli.runtime.probes.template_child",
    "g4cli.runtime.probes.memory_child",
    "g4cli.runtime.engine.worker",
    "g4cli.runtime.engine.mask_child",
    "g4cli.runtime.render.child",
    "g4cli.runtime.rpc.server_child",
    "g4cli.runtime.sound.decode_child",
    "g4cli.operations.tools.function_child",
)


@pytest.fixture
def hostile_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder whose modules leave a mark when they are imported."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in PLANTED:
        code = f"open({str(folder / 'PWNED')!r}, 'a').write({name!r})\n"
        if name in PACKAGES:
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(code)
        else:
            (folder / f"{name}.py").write_text(code)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow_except("g4cli.runtime.engine.worker", "g4cli.runtime.probes.template_child")
@pytest.mark.parametrize("module", CHILDREN)
def test_nothing_in_the_current_folder_is_imported(hostile_folder: Path, module: str) -> None:
    run_child(module, timeout_s=60)
    assert not (hostile_folder / "PWNED").exists()


def test_every_child_of_g4_is_among_those() -> None:
    """Each module that is started somewhere by its name is in CHILDREN."""
    sources = "".join(path.read_text() for path in (ROOT / "g4cli").rglob("*.py"))
    started = set(re.findall(r"(?:run_child|start_child)\(\s*\"([\w.]+)\"", sources))
    assert started <= set(CHILDREN)


@pytest.mark.slow
def test_the_doctor_runs_nothing_of_the_folder_it_stands_in(hostile_folder: Path) -> None:
    # As the installed script `g4` starts: without the current folder on the import path.
    code = f"import sys; sys.path.append({str(ROOT)!r}); from g4cli.cli.start import main; main()"
    for arguments in (
        ["pull", "tiny", "-q"],
        ["doctor", "tiny"],
        ["chat", "tiny", "-p", "Hi", "-n", "2"],
    ):
        done = subprocess.run(
            [sys.executable, "-I", "-c", code, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
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
    for _ in range(6000):
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        line = next(line for line in lines if line.startswith(name))
        if value in line.split():
            return line
        time.sleep(0.01)
    raise AssertionError(f"{name} was never {value}")


@pytest.mark.slow
@pytest.mark.requires_linux
def test_a_child_has_limits_though_nobody_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    real = child_module.start_child

    def start(module: str, args: Any, **options: Any) -> Any:
        seen.update(options)
        return real(module, args, **options)

    def watch(process: Any, text: str, **options: Any) -> ChildOutput:
        seen.update(options)
        return communicate(process, text, **options)

    monkeypatch.setattr(child_module, "start_child", start)
    monkeypatch.setattr(child_module, "communicate", watch)
    run_child("g4cli.runtime.probes.doctor_child", text="{}", timeout_s=1.5)
    assert seen["limits"].cpu_seconds == 2 * (os.cpu_count() or 1) + 1
    assert seen["limit_bytes"] == 2 * 1024**3


@pytest.mark.slow
def test_pipes_and_the_lifeline_are_closed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        seen, status = run_child(
            "g4cli.runtime.probes.doctor_child", text=json.dumps({"task": "none"}), timeout_s=30
        )
        assert status != 0
        assert seen.stderr
    assert len(os.listdir("/proc/self/fd")) == before
