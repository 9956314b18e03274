"""Files are tried in a child process: a crash of llama.cpp is an error message, not the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import F16
from tiny_file import build_tiny, tiny_parts

from g4cli.core.child_memory import Watched
from g4cli.core.errors import BadFile, NoMemory, RuntimeFailed
from g4cli.runtime.probes import load_check
from g4cli.runtime.probes.load_check import check_load, is_known


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    return path


def test_a_good_file_is_tried_once(tiny: Path) -> None:
    assert not is_known(tiny)
    check_load(tiny)
    assert is_known(tiny)
    assert not is_known(tiny, use_extra_bufts=False)
    stat = tiny.stat()
    os.utime(tiny, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert not is_known(tiny), "a changed file is another file"


def test_a_file_that_llama_cpp_refuses(tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(RuntimeFailed, match=f"llama.cpp cannot load {bad}"):
        check_load(bad)
    assert not is_known(bad)


def test_a_file_that_kills_llama_cpp(tmp_path: Path) -> None:
    """rope_freqs in another type than F32 fails an assertion in ggml, which aborts the process."""
    keys, tensors = tiny_parts()
    fatal = tmp_path / "fatal.gguf"
    fatal.write_bytes(build_with_rope_freqs(keys, tensors))
    with pytest.raises(BadFile, match=r"llama.cpp dies of this file \(SIG[A-Z]+\)") as caught:
        check_load(fatal)
    assert caught.value.hint == f"g4 doctor {fatal}"
    assert not is_known(fatal)


def build_with_rope_freqs(keys: Any, tensors: Any) -> bytes:
    from builders import build_gguf

    others = [tensor for tensor in tensors if tensor[0] != "rope_freqs.weight"]
    return build_gguf(
        keys, [*others, ("rope_freqs.weight", F16, [64], np.ones(64, np.float16).tobytes())]
    )


def ended(status: int, stderr: str = "", *, timed_out: bool = False) -> Any:
    """Stand for run_child: a child that ended with `status`."""
    seen = Watched("", stderr, timed_out=timed_out, over_limit=False, peak_bytes=0)
    return lambda *_args, **_options: (seen, status)


def test_what_the_child_says_is_passed_on(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "llama: hello\nggml.c:12: GGML_ASSERT(a == b) failed\n#1 trace\n"
    monkeypatch.setattr(load_check, "run_child", ended(-6, said))
    with pytest.raises(BadFile, match=r"\(SIGABRT\): ggml.c:12: GGML_ASSERT\(a == b\) failed"):
        check_load(tiny)


def test_a_load_that_the_system_kills_is_no_bad_file(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_check, "run_child", ended(-9))
    with pytest.raises(NoMemory, match="not enough memory"):
        check_load(tiny)


def test_a_load_without_end(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_check, "run_child", ended(-9, timed_out=True))
    with pytest.raises(RuntimeFailed, match="did not finish"):
        check_load(tiny)


def test_the_memory_does_not_grow_for_ever(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_check, "_REMEMBERED", 3)
    monkeypatch.setattr(load_check, "run_child", ended(0))
    for number in range(5):
        os.utime(tiny, ns=(0, number))
        check_load(tiny)
    assert is_known(tiny)
    os.utime(tiny, ns=(0, 1))
    assert not is_known(tiny)
