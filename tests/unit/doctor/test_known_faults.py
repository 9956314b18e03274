"""Known faults are rows of one table: a new row needs no new code."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, get_args

import pytest

from g4cli.core.ggml import TYPES
from g4cli.doctor import known_faults
from g4cli.doctor.diagnose import judge_facts, judge_machine
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.known_faults import (
    KNOWN_FAULTS,
    Condition,
    KnownFault,
    Symptom,
    find_type_faults,
    match_faults,
)
from tests.support.builders.tiny_file import build_tiny
from tests.unit.doctor.test_machine import GOOD, with_kernels

FAULT = KnownFault(
    "made-up",
    "a made-up fault",
    symptoms=("garbage",),
    conditions=("gpu",),
    builds="of Vulkan 1.4",
    source="owner/repository#1",
    workaround="use Vulkan 1.5",
    backends=("Vulkan",),
    tensor_types=frozenset(("BF16",)),
    release="1.4",
)


def test_every_row_is_valid() -> None:
    ids = [fault.id for fault in KNOWN_FAULTS]
    assert len(set(ids)) == len(ids)
    for fault in KNOWN_FAULTS:
        assert re.fullmatch(r"[a-z0-9.]+(-[a-z0-9.]+)*", fault.id), fault.id
        assert set() < set(fault.symptoms) <= set(get_args(Symptom)), fault.id
        assert set() < set(fault.conditions) <= set(get_args(Condition)), fault.id
        assert fault.conditions == ("always",) or "always" not in fault.conditions, fault.id
        assert ("gpu" in fault.conditions) or not fault.backends, fault.id
        assert re.search(r"[\w.-]+/[\w.-]+#\d+|arXiv \d{4}\.\d{5}", fault.source), fault.id
        assert all((fault.title, fault.engine, fault.builds, fault.workaround)), fault.id
        if fault.fixed_on:
            date.fromisoformat(fault.fixed_on)
            assert fault.fixed_in, fault.id
        assert fault.tensor_types <= {kind.name for kind in TYPES}, fault.id
        assert bool(fault.release) == bool(fault.tensor_types), fault.id


def test_a_row_is_found_by_its_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_faults, "KNOWN_FAULTS", (*KNOWN_FAULTS, FAULT))
    assert find_type_faults({"BF16", "F32"}) == (FAULT,)
    assert len(find_type_faults({"BF16", "IQ3_S"})) == 2
    assert find_type_faults({"Q4_0"}) == ()


@pytest.mark.parametrize(
    ("conditions", "symptom", "backend", "best"),
    [
        ((), "loop", "", "damaged-file"),
        (("bos-missing",), "loop", "", "bos-missing"),
        (("kv-quantized", "rotation-off"), "loop", "", "kv-rotation-off"),
        (("kv-quantized", "long-context"), "loop", "", "kv-quantized-long"),
        (("gpu",), "loop", "Vulkan0", "vulkan-mmvq"),
        (("gpu", "long-context"), "garbage", "ROCm0", "hip-gfx1151"),
        (("schema",), "loop", "", "constrained-collapse"),
    ],
)
def test_the_cause_that_fits_all_conditions_is_first(
    conditions: tuple[str, ...], symptom: str, backend: str, best: str
) -> None:
    assert match_faults(conditions, symptom, backend)[0].id == best


def test_a_fault_of_another_backend_does_not_fit() -> None:
    assert match_faults(("gpu",), "loop", "SYCL0") == ()


def test_a_fault_that_is_fixed_here_comes_after_one_that_is_not() -> None:
    found = match_faults(("gpu",), "garbage", "CUDA0")
    assert [fault.id for fault in found] == ["cuda-13.2-iq", "cuda-fused-gemv"]
    assert found[1].is_fixed_here


@pytest.mark.parametrize(
    ("backends", "status"),
    [
        ({"backends": {"Vulkan": {}}, "vulkan": {"runtime": "1.4"}}, "fail"),
        ({"backends": {"Vulkan": {}}, "vulkan": {"runtime": "1.5"}}, "ok"),
        ({"backends": {"Vulkan": {}}}, "warn"),
        ({"backends": {"CPU": {}}}, "warn"),
        ({}, "warn"),
    ],
)
def test_a_new_row_is_judged_like_the_others(
    backends: dict[str, Any], status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_faults, "KNOWN_FAULTS", (FAULT,))
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    facts = replace(gather_facts(path, "quick"), backends=backends)
    (finding,) = judge_facts(facts, ("tensors.engine-bug",)).findings
    assert finding.status == status
    assert ("use Vulkan 1.5" in finding.fix) == (status != "ok")


def test_a_broken_kernel_is_rebuilt_by_pip_wherever_g4_is_installed() -> None:
    product = {"type": "Q4_0", "layout": "plain", "status": "crash", "detail": "SIGILL"}
    report = judge_machine(replace(GOOD, engine=with_kernels({"products": [product]})))
    assert "pip install" in report.fix
    assert "g4cli.core.build_flags" in report.fix
    assert "make" not in report.fix.split()
