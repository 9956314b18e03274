"""`g4 fit` without a model: what to run here, and how fast that will be."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from g4cli.cli.output import Output
from g4cli.cli.views.fit_overview import draw_speed_checks
from g4cli.core.child_memory import ChildOutput
from g4cli.core.paths import cache_dir
from g4cli.core.registry import find_model
from g4cli.core.units import GIB
from g4cli.estimate import HOST, Options
from g4cli.estimate.decode import count_read_bytes
from g4cli.operations.fit.available import list_available
from g4cli.operations.fit.machine import find_machine
from g4cli.operations.fit.overview import ModelChoice, Overview, answer_overview, choose_best
from g4cli.operations.fit.request import FitRequest
from g4cli.operations.fit.speed import DecodeSpeeds
from g4cli.operations.fit.subject import describe_model
from g4cli.runtime.probes.read_rates import (
    MEASURED_TYPES,
    Measured,
    MeasuredSpeed,
    find_measured,
    find_read_rates,
    list_measured_speeds,
    list_unmeasured,
    record_measured_speed,
)
from g4cli.store.manifest import Entry
from tests.support.fakes.reporter import RecordingReporter


def choice(model: str, speed: float | None, kind: str = "q4_0") -> ModelChoice:
    return ModelChoice(model, model, kind, 32768, 65536, 1, 1, 1, speed, False)


def overview(**machine: Any) -> Overview:
    return answer_overview(FitRequest(model="", **machine), RecordingReporter())


def test_each_model_has_a_line_with_its_best_type() -> None:
    found = overview(memory_bytes=16 * GIB)
    labels = [c.label for c in found.choices]
    assert labels == ["e2b:q4_0", "e4b:q4_0", "12b:q4_0", "26b", "31b"]
    assert found.best is not None
    assert found.command == f"g4 pull {found.best.label}"
    json.dumps(found.as_json())


def test_a_small_machine_can_run_none() -> None:
    found = overview(memory_bytes=GIB)
    assert (found.best, found.command) == (None, "")
    assert {c.type for c in found.choices} == {""}


def test_a_file_that_is_here_has_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("tiny", "bf16", Path("tiny.gguf"), 7_900_000, "", "", "bundled")
    monkeypatch.setattr("g4cli.operations.fit.available.list_models", lambda: [entry])
    sizes = {row.name: row.download_bytes for row in list_available(find_machine())}
    assert sizes["tiny:bf16"] == 7_900_000
    # Estimated, without the K and V that its checkpoint leaves out: 7,823,656 bytes of weights.
    assert describe_model("tiny").weight_bytes == 7_823_656


def test_a_context_that_was_asked_for_is_the_one_that_counts() -> None:
    found = overview(memory_bytes=16 * GIB, ctx=131072)
    assert {c.n_ctx for c in found.choices if c.type} == {131072}


@pytest.mark.parametrize(
    ("speeds", "best"),
    [
        ([30, 15, 7, 25, 4], "26b"),  # 31B is slower than people read
        ([30, 15, 7, 25, 6], "31b"),
        ([3, 2, 1, 2.5, 0.5], "e2b"),  # all are slow: the fastest
        ([None] * 5, "31b"),
    ],
)
def test_the_best_is_the_most_capable_that_answers_fast(speeds: list[Any], best: str) -> None:
    names = ("e2b", "e4b", "12b", "26b", "31b")
    found, reason = choose_best(tuple(map(choice, names, speeds)))
    assert found is not None
    assert found.model == best
    assert reason


def test_what_can_be_pulled_has_sizes_and_no_type_that_another_beats() -> None:
    rows = list_available(find_machine(memory_bytes=16 * GIB))
    by_name = {row.name: row for row in rows}
    assert by_name["e2b:q4_0"].download_bytes == 3_349_516_256
    assert by_name["e2b:q4_0"].is_default
    assert not by_name["26b:q4_0"].fits
    assert "12b:q5_k_m" in by_name
    # Of E2B, Q5_K_M is larger than Q4_0, which the model was trained for, but more precise.
    for model in ("e2b", "e4b", "12b", "26b", "31b"):
        own = [row for row in rows if row.model == model]  # the most precise first
        assert all(
            row.download_bytes < before.download_bytes
            for before, row in pairwise(own)
            if not row.is_default and not before.is_default
        )


# --- bytes and rates ----------------------------------------------------------------------


def read_bytes(name: str) -> int:
    subject = describe_model(name)
    return sum(count_read_bytes(subject.shape, subject.tensors, Options(4096)).values())


def test_a_dense_model_reads_all_its_weights_once() -> None:
    """31B has no per-layer embeddings, and its embeddings are its output matrix."""
    subject = describe_model("31b:q8_0")
    assert read_bytes("31b:q8_0") == sum(t.nbytes for t in subject.tensors)


def test_rows_of_the_per_layer_embeddings_are_next_to_nothing() -> None:
    """Google calls E2B's effective parameters 2.3 billion; in BF16 each has two bytes."""
    assert 4.4e9 < read_bytes("e2b:bf16") < 4.8e9


def test_a_mixture_reads_the_experts_that_a_token_needs() -> None:
    """26B-A4B has 3.8 billion active parameters by its model card; the embeddings are in them."""
    assert 7.0e9 < read_bytes("26b:bf16") < 8.2e9


def test_layers_on_a_gpu_are_read_there() -> None:
    subject = describe_model("12b:q4_0")
    options = Options(4096, n_gpu_layers=-1)
    found = count_read_bytes(subject.shape, subject.tensors, options, ("CUDA0",))
    on_gpu = sum(n for (device, _), n in found.items() if device == "CUDA0")
    assert on_gpu > 0.99 * sum(found.values())


def test_a_speed_is_bytes_over_rate() -> None:
    speeds = DecodeSpeeds({("CPU", "Q4_0"): 10e9, ("CPU", "BF16"): 20e9})
    assert speeds.estimate_tokens_per_s({(HOST, "Q4_0"): 10**9}) == pytest.approx(10)
    assert speeds.estimate_tokens_per_s(
        {(HOST, "Q4_0"): 10**9, (HOST, "BF16"): 10**9}
    ) == pytest.approx(1 / 0.15)
    # F32 was not measured: of the measured types BF16 is the nearest in bits.
    assert speeds.estimate_tokens_per_s({(HOST, "F32"): 10**9}) == pytest.approx(20)
    assert speeds.estimate_tokens_per_s({("CUDA0", "Q4_0"): 1}) is None
    assert DecodeSpeeds({}).estimate_tokens_per_s({(HOST, "Q4_0"): 1}) is None


def fake_run(rate: float) -> Any:
    calls: list[list[str]] = []

    def run(_module: str, args: list[str], **_: Any) -> tuple[ChildOutput, int]:
        calls.append(args)
        rows = [{"type": kind, "bytes_per_s": rate} for kind in args[3:]]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        return ChildOutput(text, "", timed_out=False, over_limit=False, peak_bytes=0), 0

    run.calls = calls  # type: ignore[attr-defined]
    return run


@pytest.fixture(autouse=True)
def sound_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernels:
        use_extra_bufts = True

    monkeypatch.setattr("g4cli.runtime.probes.read_rates.probe_kernels", lambda **_: Kernels)
    monkeypatch.setattr("g4cli.runtime.probes.read_rates.is_busy", lambda: False)


def test_rates_are_measured_once_and_remembered() -> None:
    run = fake_run(5e9)
    assert find_read_rates(["CPU"], measure="never", run=run) == {}
    first = find_read_rates(["CPU"], run=run)
    assert first == {("CPU", kind): 5e9 for kind in MEASURED_TYPES}
    assert find_read_rates(["CPU"], run=run) == first
    assert len(run.calls) == 1
    assert run.calls[0][0] == "CPU"


def test_of_two_measurements_the_faster_is_kept() -> None:
    """Other programs can only slow one down."""
    find_read_rates(["CPU"], run=fake_run(5e9))
    assert find_read_rates(["CPU"], measure="all", run=fake_run(7e9))["CPU", "Q4_0"] == 7e9
    assert find_read_rates(["CPU"], measure="all", run=fake_run(2e9))["CPU", "Q4_0"] == 7e9


def test_a_measurement_that_fails_loses_no_rate() -> None:
    def die(*_: Any, **__: Any) -> tuple[ChildOutput, int]:
        text = '{"type": "Q4_0", "bytes_per_s": 7e9}\n{"type": "Q4_K", "byt'
        return ChildOutput(text, "", timed_out=True, over_limit=False, peak_bytes=0), -9

    find_read_rates(["CPU"], run=fake_run(5e9))
    rates = find_read_rates(["CPU"], measure="all", run=die)
    assert (rates["CPU", "Q4_0"], rates["CPU", "Q4_K"]) == (7e9, 5e9)


def test_what_was_measured_on_a_busy_machine_is_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow, fast = fake_run(1e9), fake_run(7e9)
    monkeypatch.setattr("g4cli.runtime.probes.read_rates.is_busy", lambda: True)
    find_read_rates(["CPU"], run=slow)
    find_read_rates(["CPU"], run=slow)
    assert len(slow.calls) == 1, "not while it is still busy"
    measured = find_measured("CPU")
    assert measured is not None
    assert measured.was_busy
    monkeypatch.setattr("g4cli.runtime.probes.read_rates.is_busy", lambda: False)
    assert list_unmeasured(["CPU"]) == ["CPU"]
    assert find_read_rates(["CPU"], run=fast)["CPU", "Q4_0"] == 7e9
    measured = find_measured("CPU")
    assert measured is not None
    assert not measured.was_busy
    assert list_unmeasured(["CPU"]) == []


def test_when_speeds_were_measured_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    out = StringIO()
    monkeypatch.setattr("sys.stdout", out)
    found = answer_overview(FitRequest(model="", memory_bytes=16 * GIB), RecordingReporter())
    speeds = DecodeSpeeds({("CPU", "Q4_0"): 5e9}, measured=Measured("2026-11-28T09:05+00:00", True))
    draw_speed_checks(Output("human"), replace(found, speeds=speeds))
    shown = " ".join(out.getvalue().split())
    assert "measured on 2026-11-28 at 09:05 on a busy machine (again: g4 fit --measure)" in shown


def test_what_g4_bench_measured_is_kept_by_model() -> None:
    record_measured_speed(MeasuredSpeed("e2b:q4_0", 8.0, {"host Q4_0": 10**9}))
    record_measured_speed(MeasuredSpeed("e2b:q4_0", 9.0, {"host Q4_0": 10**9}))
    assert [(s.model, s.tokens_per_s) for s in list_measured_speeds()] == [("e2b:q4_0", 9.0)]
    find_read_rates(["CPU"], run=fake_run(5e9))
    assert len(list_measured_speeds()) == 1


@pytest.mark.parametrize("damage", ["", "[]", '{"rates": {"CPU": 3}}', '{"benches": [1]}'])
def test_a_damaged_record_is_measured_again(damage: str) -> None:
    run = fake_run(5e9)
    find_read_rates(["CPU"], run=run)
    path = cache_dir() / "speed.json"
    if damage:
        whole = json.loads(path.read_text())
        changed = json.loads(damage)
        path.write_text(json.dumps(changed if isinstance(changed, list) else {**whole, **changed}))
    else:
        path.write_text("")
    find_read_rates(["CPU"], run=run)
    assert len(run.calls) == 2


@pytest.mark.slow
def test_every_registered_model_can_be_counted() -> None:
    for name in ("e2b", "e4b", "12b", "26b", "31b", "tiny"):
        for kind in find_model(name).types:
            assert read_bytes(f"{name}:{kind}") > 0
