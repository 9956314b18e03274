"""The machine check on made-up facts, and once on the machine that runs the tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from g4cli import LLAMA_CPP_PYTHON
from g4cli.doctor.diagnose import judge_machine
from g4cli.doctor.facts.machine import LIBRARIES, MachineFacts
from g4cli.doctor.probe.engine import EngineFacts

GIB = 1024**3
GOOD = MachineFacts(
    python="3.12.1",
    system="Linux x86_64",
    versions=dict.fromkeys(LIBRARIES, "1.0") | {"llama-cpp-python": LLAMA_CPP_PYTHON},
    engine=EngineFacts(
        library={"version": "0.3.36", "system_info": "CPU : AVX2 = 1 | AMX = 0 |"},
        kernels={
            "products": [{"type": "Q4_0", "layout": "plain", "status": "ok", "detail": ""}],
            "use_extra_bufts": True,
            "reason": "all matrix products of repacked weights work on this machine",
        },
    ),
    memory_total=16 * GIB,
    memory_free=12 * GIB,
    folders=(("/home/u/.local/share/g4", ""),),
    disk_free=100 * GIB,
    disk_path="/home/u/.local/share/g4",
    encoding="UTF-8",
    terminal="xterm, 100 columns",
)


def crash_events(layout: str) -> dict[str, Any]:
    product = {"type": "Q4_0", "layout": layout, "status": "crash", "detail": "SIGILL"}
    return {"products": [product], "use_extra_bufts": False, "reason": "weights are not repacked"}


def with_kernels(kernels: dict[str, Any]) -> EngineFacts:
    """Return an engine that starts and says this of its kernels."""
    return replace(GOOD.engine, kernels=kernels)


def test_a_good_machine_is_healthy() -> None:
    report = judge_machine(GOOD)
    assert (report.verdict, report.exit_code) == ("healthy", 0)
    engine = next(f for f in report.findings if f.id == "machine.engine")
    assert engine.found.endswith("AVX2")


@pytest.mark.parametrize(
    ("change", "check", "status"),
    [
        ({"versions": GOOD.versions | {"rich": ""}}, "machine.libraries", "fail"),
        ({"versions": GOOD.versions | {"llama-cpp-python": "0.3.9"}}, "machine.libraries", "warn"),
        ({"engine": EngineFacts(error="no libgomp")}, "machine.engine", "fail"),
        ({"engine": with_kernels(crash_events("plain"))}, "machine.kernels", "fail"),
        ({"engine": with_kernels(crash_events("extra"))}, "machine.kernels", "warn"),
        ({"engine": with_kernels({})}, "machine.kernels", "skipped"),
        ({"memory_free": 2 * GIB}, "machine.memory", "warn"),
        ({"memory_total": 0}, "machine.memory", "skipped"),
        ({"disk_free": GIB}, "machine.disk", "warn"),
        ({"folders": (("/", "Permission denied"),)}, "machine.folders", "fail"),
        ({"encoding": "ANSI_X3.4-1968"}, "machine.terminal", "warn"),
    ],
)
def test_each_fault_is_one_finding(change: dict[str, Any], check: str, status: str) -> None:
    report = judge_machine(replace(GOOD, **change))
    assert {f.id: f.status for f in report.findings}[check] == status
    assert report.exit_code == (8 if status == "fail" else 0)
    if status == "fail":
        assert report.verdict == "runtime"
        assert report.fix


@pytest.mark.parametrize(("backend", "status"), [("RPC", "ok"), ("BLAS", "ok"), ("CUDA", "warn")])
def test_a_build_for_the_cpu_needs_no_gpu(backend: str, status: str) -> None:
    """The build that g4 recommends has the backend RPC."""
    engine = replace(GOOD.engine, backends={"backends": {"CPU": {}, backend: {}}, "devices": []})
    (gpu,) = judge_machine(replace(GOOD, engine=engine), ("machine.gpu",)).findings
    assert gpu.status == status


def test_a_check_that_throws_is_a_finding() -> None:
    report = judge_machine(replace(GOOD, engine=with_kernels({"products": None})))
    crashed = [f for f in report.findings if f.status == "crash"]
    assert [f.id for f in crashed] == ["machine.kernels"]
    assert "FILE" not in crashed[0].fix
    assert (report.verdict, report.exit_code) == ("unknown", 8)
