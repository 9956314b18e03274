"""`g4 doctor FILE --loop` with llama.cpp, on copies of the bundled model that loop for one reason.

A row of the vocabulary that is not a number makes all logits NaN as soon as its token is read, so
the model is broken only where that token is in the prompt: if tools are declared, or after a text.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray

from g4cli.core.errors import RuntimeFailed, UsageError
from g4cli.core.units import GIB
from g4cli.doctor.loop.outcome import LoopResult
from g4cli.doctor.loop.report import LoopDiagnosis
from g4cli.operations.diagnose_loop import LoopRequest, diagnose_loop
from g4cli.runtime.engine.client import EngineClient
from g4cli.runtime.engine.messages import Open
from tests.support.builders.damage import KINDS, changed
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.reporter import RecordingReporter
from tests.support.paths import ROOT

SCHEMA = ROOT / "docs" / "reference" / "schemas" / "doctor-loop.json"
TOOL, THINK = 46, 98  # <|tool>, <|think|>


def spoil(token: int) -> Callable[[bytes], bytes]:
    def change(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        rows[token] = np.nan
        return rows

    return changed("token_embd.weight", change, only="token")


def ask(
    path: Path, make: Callable[[bytes], bytes], **options: object
) -> tuple[LoopDiagnosis, list[LoopResult]]:
    path.write_bytes(make(build_tiny()))
    seen: list[LoopResult] = []
    request = LoopRequest(str(path), **options)  # type: ignore[arg-type]
    diagnosis = diagnose_loop(request, RecordingReporter(), lambda result, *_: seen.append(result))
    jsonschema.validate(diagnosis.as_json(), json.loads(SCHEMA.read_text()))
    return diagnosis, seen


@pytest.mark.slow_except("46-tools")
@pytest.mark.parametrize(("token", "factor"), [(TOOL, "tools"), (THINK, "thinking")])
def test_the_condition_of_a_loop_is_found(token: int, factor: str, tmp_path: Path) -> None:
    report = tmp_path / "loop.md"
    diagnosis, seen = ask(tmp_path / "model.gguf", spoil(token), bug_report=report)
    (condition,) = diagnosis.conclusion.conditions or ()
    assert (condition.factor, condition.value) == (factor, True)
    assert diagnosis.exit_code == 8
    assert seen == list(diagnosis.results)
    assert len(seen) <= 6, "one condition is enough"
    assert report.read_text(encoding="utf-8").startswith("# g4 doctor: experiments on a loop")


@pytest.mark.slow
def test_a_file_that_always_loops_is_at_fault_itself(tmp_path: Path) -> None:
    diagnosis, _ = ask(tmp_path / "model.gguf", KINDS["dashes"])
    assert diagnosis.conclusion.conditions == ()
    assert diagnosis.conclusion.causes[0].id == "damaged-file"
    assert diagnosis.results[0].unit.strip() == "---"


@pytest.mark.slow
def test_the_bundled_model_does_not_loop(tmp_path: Path) -> None:
    diagnosis, seen = ask(tmp_path / "model.gguf", lambda data: data)
    assert diagnosis.exit_code == 0
    assert {result.outcome for result in seen} <= {"ended", "unended"}


@pytest.mark.slow
def test_what_the_budget_has_no_room_for_is_named(tmp_path: Path) -> None:
    diagnosis, seen = ask(tmp_path / "model.gguf", lambda data: data, budget_s=0.001)
    assert seen[0].was_run
    assert {result.outcome for result in seen[1:]} == {"skipped"}
    assert diagnosis.exit_code == 0
    assert diagnosis.conclusion.n_not_run == len(seen) - 1


@pytest.mark.slow
def test_a_crash_costs_one_experiment(tmp_path: Path) -> None:
    """llama.cpp refuses a file without its norms: every experiment says so."""
    diagnosis, seen = ask(tmp_path / "model.gguf", KINDS["norm-missing"], budget_s=5.0)
    assert seen[0].outcome == "failed"
    assert diagnosis.exit_code == 8


def test_the_memory_of_the_worker_counts_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Open] = []

    def refuse(_client: EngineClient, request: Open, *_: object) -> None:
        opened.append(request)
        raise RuntimeFailed("not in this test")

    monkeypatch.setattr(EngineClient, "open", refuse)
    second = tmp_path / "m-00002-of-00002.gguf"
    second.touch()
    os.truncate(second, 9 * GIB)
    ask(tmp_path / "m-00001-of-00002.gguf", lambda data: data, budget_s=0.001)
    assert opened[0].data_bytes > 18 * GIB


def test_a_file_that_is_no_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a language model"):
        ask(tmp_path / "model.gguf", _without_tensors)


def _without_tensors(_data: bytes) -> bytes:
    from tests.support.builders.gguf import build_gguf

    return build_gguf([], [])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the environment of a process in /proc")
def test_a_switch_of_llama_cpp_reaches_the_worker() -> None:
    with EngineClient({"LLAMA_ATTN_ROT_DISABLE": "1"}) as client:
        client.hello()
        environment = Path(f"/proc/{client.pid}/environ").read_bytes()
    assert b"LLAMA_ATTN_ROT_DISABLE=1" in environment.split(b"\0")
