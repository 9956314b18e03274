"""The limits of a probe child: memory as the kernel counts it, and as the parent watches it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.child_memory import communicate, private_bytes, status_bytes
from g4cli.doctor.diagnose import judge_facts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.probe.child import ChildAnswer, ask_child, greedy_probe
from tests.support.builders import real_shapes, shapes

MIB = 1024**2
ONE_WIDE_HEAD = 1 << 16


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound file with two layers of 65,536 wide heads: 128 MiB of KV cache."""
    shape = replace(
        shapes.TINY,
        n_layer=2,
        is_swa=(True, False),
        n_ff=(64, 64),
        n_head=(1, 1),
        n_head_kv=(1, 1),
        n_shared_kv=0,
        head_dim=ONE_WIDE_HEAD,
        head_dim_swa=ONE_WIDE_HEAD,
    )
    path = tmp_path_factory.mktemp("hostile") / "wide.gguf"
    return real_shapes.build(
        path, "wide", shape, "q4_0", vocabulary=real_shapes.synthetic_vocabulary(768)
    )


def start_python(code: str) -> subprocess.Popen[bytes]:
    """Return a Python child with pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_a_child_that_keeps_to_its_limits_is_heard_to_the_end() -> None:
    child = start_python("import sys; print(sys.stdin.read() * 2); print('x', file=sys.stderr)")
    seen = communicate(child, "ab", timeout_s=20, limit_bytes=1 << 40)
    assert (seen.stdout, seen.stderr, seen.timed_out, seen.over_limit) == (
        "abab\n",
        "x\n",
        False,
        False,
    )


@pytest.mark.slow
def test_a_child_that_takes_too_much_memory_is_ended() -> None:
    child = start_python("print('start', flush=True); b = bytearray(b'1') * (200 << 20); input()")
    seen = communicate(
        child, "", timeout_s=20, limit_bytes=100 * MIB, measure_memory=lambda _: 150 * MIB
    )
    assert (seen.over_limit, seen.timed_out, child.returncode) == (True, False, -9)
    child = start_python("b = b'1' * (200 << 20); import time; time.sleep(30)")
    seen = communicate(child, "", timeout_s=20, limit_bytes=100 * MIB)
    assert seen.over_limit
    assert 100 * MIB < seen.peak_bytes < 400 * MIB


@pytest.mark.slow
def test_a_mapped_file_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(300 * MIB)
    code = (
        f"import mmap; f = open({str(path)!r}, 'rb')\n"
        "m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "print(sum(m[i] for i in range(0, len(m), 4096)), flush=True); input()"
    )
    seen = communicate(start_python(code), "\n", timeout_s=20, limit_bytes=100 * MIB)
    assert (seen.stdout, seen.over_limit) == ("0\n", False)


@pytest.mark.slow
def test_a_child_that_takes_too_long_is_ended() -> None:
    child = start_python("import time; print('start', flush=True); time.sleep(60)")
    seen = communicate(child, "", timeout_s=0.3, limit_bytes=1 << 40)
    assert (seen.timed_out, seen.over_limit, child.returncode) == (True, False, -9)


def test_memory_is_read_as_linux_writes_it(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text(
        "Name:\tx\nVmRSS:\t 900 kB\nRssAnon:\t 100 kB\nRssFile:\t 800 kB\nVmSwap:\t 20 kB\n"
    )
    assert status_bytes(status) == 120 * 1024
    assert status_bytes(tmp_path / "gone") == 0


@pytest.mark.requires_linux
def test_this_process_has_memory_of_its_own() -> None:
    import os

    assert 5 * MIB < private_bytes(os.getpid()) < 4096 * MIB


@pytest.mark.slow
def test_a_file_that_asks_for_too_much_memory_is_a_finding(hostile: Path) -> None:
    result = greedy_probe(hostile, [("Hi", "<bos>Hi")], n_tokens=2, limit_bytes=100 * MIB)
    assert result.child.over_limit
    facts = replace(gather_facts(hostile), probe=result)
    report = judge_facts(facts, ("probe",))
    assert (report.verdict, report.exit_code) == ("conversion-defect", 8)
    assert "more than 100 MiB besides the file" in report.evidence[0]
    known = judge_facts(replace(facts, model_name="31b"), ("probe",))
    assert known.verdict == "runtime"


@pytest.mark.slow
@pytest.mark.requires_linux
def test_the_kernel_refuses_what_the_parent_would_see_too_late(hostile: Path) -> None:
    request = {
        "task": "greedy",
        "path": str(hostile),
        "prompts": ["<bos>Hi"],
        "n_tokens": 2,
        "options": {},
        "data_limit": 220 * MIB,
    }
    done = subprocess.run(
        [sys.executable, "-m", "g4cli.runtime.probes.doctor_child"],
        input=json.dumps(request),
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 7
    assert "failed to allocate" in done.stdout


@pytest.mark.slow
def test_a_refusal_of_the_kernel_is_the_limit_too(
    monkeypatch: pytest.MonkeyPatch, hostile: Path
) -> None:
    monkeypatch.setattr("g4cli.doctor.probe.child.DATA_SLACK", 20 * MIB)
    answer = ask_child(
        {
            "task": "greedy",
            "path": str(hostile),
            "prompts": ["<bos>Hi"],
            "n_tokens": 2,
            "options": {},
        },
        limit_bytes=200 * MIB,
    )
    assert answer.over_limit
    assert (
        ChildAnswer(over_limit=True, limit_bytes=1 << 30).died
        == "it needed more than 1.00 GiB of memory"
    )


@pytest.mark.parametrize(("status", "bytes_seen"), [(0, 123_456_789), (-1, 0)])
def test_macos_is_asked_for_the_footprint(
    status: int, bytes_seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its struct: uuid[16], user, system, two wakeups, pageins, wired, resident, footprint, ..."""

    class LibProc:
        def proc_pid_rusage(self, pid: Any, flavour: Any, buffer: Any) -> int:
            assert (pid.value, flavour.value) == (42, 0)
            words = [1, 2, 3, 4, 5, 6, 999_000_000, 123_456_789, 9, 10]
            buffer.raw = b"u" * 16 + struct.pack("<10Q", *words)
            return status

    monkeypatch.setattr("g4cli.core.child_memory.sys.platform", "darwin")
    monkeypatch.setattr("g4cli.core.child_memory.ctypes.CDLL", lambda _name: LibProc())
    assert private_bytes(42) == bytes_seen
