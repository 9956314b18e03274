"""tools/gpu_check.py without a GPU: what travels, what a failure stops, and the report."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.image_header import read_image_header
from tools import gpu_check


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gpu_check.Machine:
    monkeypatch.setattr(gpu_check, "query_gpu", lambda _fields: "")
    return gpu_check.Machine(tmp_path, 5)


@pytest.mark.parametrize(
    ("name", "is_needed"),
    [
        ("llama_cpp/llama_cpp.py", True),
        ("vendor/llama.cpp/CMakeLists.txt", True),
        ("vendor/llama.cpp/app/CMakeLists.txt", True),
        ("vendor/llama.cpp/ggml/src/ggml-cuda/mmq.cu", True),
        ("vendor/llama.cpp/ggml/src/ggml-cpu/ops.cpp", True),
        ("vendor/llama.cpp/ggml/src/ggml-vulkan/ggml-vulkan.cpp", False),
        ("vendor/llama.cpp/models/ggml-vocab-gemma-4.gguf", False),
        ("vendor/llama.cpp/tools/mtmd/test-1.jpeg", True),
        ("vendor/llama.cpp/tools/mtmd/test-2.mp3", False),
        ("README.md", False),
    ],
)
def test_what_travels(name: str, is_needed: bool) -> None:
    assert gpu_check._is_needed(f"llama_cpp_python-0.3.36/{name}") == is_needed


def fail(_machine: Any) -> dict[str, Any]:
    raise RuntimeError("broken | here\nand there")


def test_a_failure_stops_nothing_and_the_report_is_a_table(
    machine: gpu_check.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = (("one", fail), ("two", lambda _machine: {"figure": 3}))
    monkeypatch.setattr(gpu_check, "list_checks", lambda _kind: checks)
    found = gpu_check.run_checks(machine, None, "q4_0")
    assert [check.state for check in found] == ["failed", "passed"]
    gpu_check.write_report(machine, found)
    document = json.loads((machine.out / "gpu-check.json").read_text())
    assert document["gpu"] is None
    assert document["checks"][1]["figures"] == {"figure": 3}
    lines = (machine.out / "gpu-check.md").read_text().splitlines()
    assert [line.count("|") for line in lines[2:]] == [5, 5, 5, 5]


def test_nothing_is_checked_without_a_build_or_without_time(
    machine: gpu_check.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_check, "build_g4", lambda machine, _packed: fail(machine))
    found = gpu_check.run_checks(machine, machine.out, "q4_0")
    assert found[0].state == "failed"
    assert {check.state for check in found[1:]} == {"skipped"}
    machine.end = 0.0
    assert {c.state for c in gpu_check.run_checks(machine, None, "q4_0")} == {"skipped"}


def test_the_picture_is_a_png() -> None:
    picture = gpu_check.make_png(5, 3)
    header = read_image_header(picture)
    assert (header.format, header.width, header.height) == ("png", 5, 3)
    rows = zlib.decompressobj().decompress(picture[picture.index(b"IDAT") + 4 :])
    assert rows == (b"\0" + bytes((200, 30, 30)) * 5) * 3
