"""The kernel probe: real products on this machine, and children that die."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from math import nan
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.child import exit_text
from g4cli.core.child_memory import ChildOutput
from g4cli.core.paths import cache_dir
from g4cli.runtime.probes import kernels
from g4cli.runtime.probes.kernel_child import judge_errors
from g4cli.runtime.probes.kernels import TYPES, probe_kernels


def fake_child(script: Callable[[str, list[str]], tuple[list[dict[str, str]], int]]) -> Any:
    """Stands for run_child: `script(layout, types)` gives the lines and the exit code."""
    calls: list[tuple[str, list[str]]] = []

    def run(_module: str, args: list[str], **_: Any) -> tuple[ChildOutput, int]:
        layout, types = args[0], args[1:]
        calls.append((layout, types))
        lines, code = script(layout, types)
        text = "".join(json.dumps(x) + "\n" for x in lines)
        return ChildOutput(text, "", timed_out=False, over_limit=False, peak_bytes=0), code

    run.calls = calls  # type: ignore[attr-defined]
    return run


def dies_at(dead: str, code: int) -> Any:
    def script(layout: str, types: list[str]) -> tuple[list[dict[str, str]], int]:
        lines: list[dict[str, str]] = []
        for name in types:
            if layout == "extra" and name == dead:
                return lines, code
            lines.append({"type": name, "status": "ok", "detail": ""})
        return lines, 0

    return fake_child(script)


def test_a_child_that_dies_costs_only_its_product() -> None:
    child = dies_at("Q4_0", -4)
    report = probe_kernels(run=child)
    assert not report.use_extra_bufts
    assert (
        report.reason == "weights are not repacked: the Q4_0 matrix product crashes here (SIGILL)"
    )
    assert [p.type for p in report.find_broken("extra")] == ["Q4_0"]
    assert len(report.products) == 2 * len(TYPES)
    assert [layout for layout, _ in child.calls] == ["plain", "extra", "extra"]
    assert "Q4_0" not in child.calls[2][1]


def test_what_a_library_prints_is_no_outcome() -> None:
    child = dies_at("", 0)

    def run(*args: Any, **options: Any) -> tuple[ChildOutput, int]:
        seen, code = child(*args, **options)
        return replace(seen, stdout=f"a driver says hello\n{seen.stdout}"), code

    assert probe_kernels(run=run).use_extra_bufts


def test_a_product_that_is_no_number_is_wrong() -> None:
    assert [judge_errors(e)["status"] for e in ([], [0.01, 0.02], [0.01, 0.2])] == [
        "absent", "ok", "wrong",
    ]  # fmt: skip
    assert judge_errors([0.01, nan]) == {"status": "wrong", "detail": "relative error nan"}


def test_wrong_numbers_count_as_broken() -> None:
    def script(layout: str, types: list[str]) -> tuple[list[dict[str, str]], int]:
        bad = {"status": "wrong" if layout == "extra" else "ok", "detail": "relative error 1.4"}
        return [{"type": name, **bad} for name in types], 0

    report = probe_kernels(run=fake_child(script))
    assert not report.use_extra_bufts
    assert "gives wrong numbers here (relative error 1.4)" in report.reason


def test_a_library_that_does_not_start() -> None:
    report = probe_kernels(run=fake_child(lambda *_: ([], -11)))
    assert {p.status for p in report.products} == {"crash"}
    assert {p.detail for p in report.products} == {"SIGSEGV"}


def test_a_product_without_end_counts_as_broken() -> None:
    usual = dies_at("none", 0)

    def run(module: str, args: list[str], **options: Any) -> tuple[ChildOutput, int]:
        if args[0] == "extra" and "F32" in args:
            return ChildOutput("", "", timed_out=True, over_limit=False, peak_bytes=0), -9
        return usual(module, args, **options)

    report = probe_kernels(run=run)
    assert [(p.type, p.detail) for p in report.find_broken("extra")] == [("F32", "no end in 60 s")]


class TestMemory:
    def test_asked_once(self) -> None:
        child = dies_at("Q8_0", -11)
        first = probe_kernels(run=child)
        n_calls = len(child.calls)
        assert probe_kernels(run=child) == first
        assert len(child.calls) == n_calls
        probe_kernels(refresh=True, run=child)
        assert len(child.calls) > n_calls

    def test_another_library_is_another_question(self, monkeypatch: pytest.MonkeyPatch) -> None:
        child = dies_at("none", 0)
        probe_kernels(run=child)
        n_calls = len(child.calls)
        monkeypatch.setattr(kernels, "machine_key", lambda: "another")
        probe_kernels(run=child)
        assert len(child.calls) > n_calls

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"key": 1}', '{"products": [{"type": 1}]}'])
    def test_a_damaged_memory_is_ignored(self, text: str) -> None:
        store = Path(cache_dir() / "kernels.json")
        store.parent.mkdir(parents=True)
        store.write_text(text)
        assert probe_kernels(run=dies_at("none", 0)).use_extra_bufts


@pytest.mark.parametrize(
    ("code", "text"), [(-4, "SIGILL"), (-6, "SIGABRT"), (1, "exit code 1"), (-99, "signal 99")]
)
def test_exit_text(code: int, text: str) -> None:
    assert exit_text(code) == text
