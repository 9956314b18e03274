"""Known bugs are rows of a table: a new row needs no new code."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g4cli.doctor import known_bugs
from g4cli.doctor.diagnose import judge_facts
from g4cli.doctor.diagnose_machine import judge_machine
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.known_bugs import EngineBug, find_bugs
from tests.support.builders.tiny_file import build_tiny
from tests.unit.doctor.test_machine import GOOD, with_kernels

BUG = EngineBug("NaN", frozenset(("BF16",)), "Vulkan", "1.4", "use Vulkan 1.5", "a made-up issue")


def test_a_row_is_found_by_its_types(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_bugs, "KNOWN_BUGS", (*known_bugs.KNOWN_BUGS, BUG))
    assert find_bugs({"BF16", "F32"}) == (BUG,)
    assert len(find_bugs({"BF16", "IQ3_S"})) == 2
    assert find_bugs({"Q4_0"}) == ()


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
    monkeypatch.setattr(known_bugs, "KNOWN_BUGS", (BUG,))
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
