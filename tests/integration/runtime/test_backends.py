"""What the loaded engines say about themselves: a registry with real C callbacks, a CUDA runtime
made up.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.ggml import BY_NAME
from g4cli.doctor.diagnose import judge_facts, judge_machine
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.known_faults import find_release
from g4cli.runtime.llama.backends import (
    Feature,
    find_cudart,
    format_cuda_version,
    read_backend_facts,
    read_cuda_versions,
    read_features,
)
from tests.support.builders.damage import quantize
from tests.support.builders.tiny_file import build_tiny
from tests.unit.doctor.test_machine import GOOD

MAPS = (
    "7f00-7f01 r-xp 0 0:0 1 /opt/venv/lib/nvidia/cuda_runtime/lib/libcudart.so.13\n"
    "7f01-7f02 r--p 0 0:0 1 /opt/venv/lib/nvidia/cuda_runtime/lib/libcudart.so.13\n"
    "7f02-7f03 r-xp 0 0:0 2 /opt/venv/lib/llama_cpp/lib/libggml-cuda.so\n"
)
# A callback in Python cannot have the pointer type of the C function that it stands for.
GIVE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)


class Call:
    """A function of a C library, as ctypes shows one."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def __call__(self, *args: Any) -> Any:
        return self.run(*args)


class Registry:
    """ggml's registry with these backends; their features come from a real C callback."""

    def __init__(self, backends: dict[str, dict[str, str] | None]) -> None:
        names = list(backends)
        self.kept = []
        for features in backends.values():
            rows = (Feature * (len(features or {}) + 1))()
            for row, (name, text) in zip(rows, (features or {}).items(), strict=False):
                row.name, row.value = name.encode(), text.encode()
            give = GIVE(lambda _reg, rows=rows: ctypes.addressof(rows))
            self.kept.append((rows, give))
        addresses = [ctypes.cast(give, ctypes.c_void_p).value for _, give in self.kept]
        has = [features is not None for features in backends.values()]
        self.ggml_backend_reg_count = Call(lambda: len(names))
        self.ggml_backend_reg_get = Call(lambda i: i + 1)
        self.ggml_backend_reg_name = Call(lambda h: names[h - 1].encode())
        self.ggml_backend_reg_get_proc_address = Call(
            lambda h, what: (
                addresses[h - 1] if has[h - 1] and what == b"ggml_backend_get_features" else None
            )
        )


class Cuda:
    """A CUDA library that answers with one version."""

    def __init__(self, number: int, status: int = 0) -> None:
        self.number, self.status = number, status

    def _answer(self, pointer: Any) -> int:
        pointer._obj.value = self.number
        return self.status

    cudaRuntimeGetVersion = cuDriverGetVersion = _answer  # noqa: N815


def libraries(**known: Cuda) -> Any:
    """Return a loader that knows libraries by the start of their file name."""

    def load(name: str) -> Cuda:
        for start, library in known.items():
            if Path(name).name.startswith(start):
                return library
        raise OSError(f"{name}: cannot open shared object file")

    return load


def test_every_backend_names_its_features() -> None:
    registry = Registry({"CUDA": {"ARCHS": "890", "USE_GRAPHS": "1"}, "CPU": {}, "RPC": None})
    assert read_features(registry) == {
        "CUDA": {"ARCHS": "890", "USE_GRAPHS": "1"},
        "CPU": {},
        "RPC": {},
    }


def test_this_engine_answers() -> None:
    facts = read_backend_facts()
    assert "CPU" in facts["backends"]
    assert [d["kind"] for d in facts["devices"]][-1] == "cpu"
    assert bool(facts["cuda"]) == ("CUDA" in facts["backends"])


@pytest.mark.parametrize(
    ("runtime", "text"),
    [(13020, "13.2"), (12080, "12.8"), (13000, "13.0"), (13120, "13.12"), (0, "")],
)
def test_the_runtime_in_the_process_is_asked(runtime: int, text: str, tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text(MAPS)
    load = libraries(libcudart=Cuda(runtime), libcuda=Cuda(13010))
    found = read_cuda_versions(maps, load, lambda: "580.65.06")
    assert found == {"runtime": text, "driver": "13.1", "driver_release": "580.65.06"}
    assert format_cuda_version(runtime) == text


def test_a_runtime_that_is_not_there_or_fails_is_unknown(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text("7f00-7f01 r-xp 0 0:0 1 /lib/libc.so.6\n")
    assert find_cudart(maps) == []
    assert find_cudart(tmp_path / "gone") == []
    assert read_cuda_versions(maps, libraries(), lambda: "") == {
        "runtime": "",
        "driver": "",
        "driver_release": "",
    }
    maps.write_text(MAPS)
    assert find_cudart(maps) == ["/opt/venv/lib/nvidia/cuda_runtime/lib/libcudart.so.13"]
    assert (
        read_cuda_versions(maps, libraries(libcudart=Cuda(13020, 35)), lambda: "")["runtime"] == ""
    )


def engine(runtime: str | None) -> dict[str, Any]:
    """Return what an engine with (or without) CUDA says."""
    if runtime is None:
        return {"backends": {"CPU": {}}, "devices": [], "cuda": {}}
    device = {"name": "CUDA0", "kind": "gpu", "description": "NVIDIA RTX 4090"}
    return {
        "backends": {"CUDA": {}, "CPU": {}},
        "devices": [device],
        "cuda": {"runtime": runtime, "driver": "13.1", "driver_release": "580.65.06"},
    }


@pytest.fixture(scope="module")
def iq3(tmp_path_factory: pytest.TempPathFactory) -> FileFacts:
    """Return the facts about a file with one tensor of type IQ3_S."""
    path = tmp_path_factory.mktemp("bugs") / "model.gguf"
    path.write_bytes(quantize(build_tiny(), 2))
    facts = gather_facts(path)
    assert facts.header is not None
    name = "blk.0.attn_q.weight"
    tensors = dict(facts.header.tensors)
    tensors[name] = replace(tensors[name], type=BY_NAME["IQ3_S"])
    return replace(facts, header=replace(facts.header, tensors=tensors))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runtime", "status", "verdict"),
    [("13.2", "fail", "runtime"), ("13.3", "ok", "not-checked"), ("12.8", "ok", "not-checked"),
     ("", "warn", "not-checked"), (None, "warn", "not-checked")],
)  # fmt: skip
def test_a_known_bug_is_judged_by_the_installed_engine(
    runtime: str | None, status: str, verdict: str, iq3: FileFacts
) -> None:
    report = judge_facts(replace(iq3, backends=engine(runtime)), ("tensors.engine-bug",))
    assert (report.findings[0].status, report.verdict) == (status, verdict)
    assert "IQ3_S" in report.findings[0].found
    assert find_release("CUDA", engine(runtime)) == runtime


def test_without_an_answer_of_the_engine_a_known_bug_is_a_warning(iq3: FileFacts) -> None:
    report = judge_facts(iq3, ("tensors.engine-bug",))
    assert report.findings[0].status == "warn"
    plain = judge_facts(
        replace(iq3, header=gather_facts(Path(iq3.path), "quick").header), ("tensors.engine-bug",)
    )
    assert plain.findings[0].status == "ok"


@pytest.mark.parametrize(
    ("facts", "status", "said"),
    [
        (engine(None), "ok", "CPU only: no GPU"),
        (
            engine("12.8"),
            "ok",
            "CUDA: NVIDIA RTX 4090, CUDA 12.8, driver for CUDA 13.1, release 580.65.06",
        ),
        (engine("13.2"), "warn", "CUDA 13.2"),
        (engine(""), "ok", "CUDA of an unknown release"),
        (engine("12.8") | {"devices": []}, "warn", "finds none"),
        ({}, "skipped", "did not answer"),
    ],
)
def test_the_machine_check_names_the_gpu(facts: dict[str, Any], status: str, said: str) -> None:
    report = judge_machine(
        replace(GOOD, engine=replace(GOOD.engine, backends=facts)), ("machine.gpu",)
    )
    assert report.findings[0].status == status
    assert said in report.findings[0].found
