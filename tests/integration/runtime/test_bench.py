"""g4 bench: the shape of its answer, and what its figures are made of."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from g4cli.cli.main import run
from g4cli.core.errors import UsageError
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, ModelOptions
from g4cli.runtime.engine.state_copy import put_state, take_state
from g4cli.runtime.llama.interrupt import Interrupt
from g4cli.runtime.measure.bench import read_peak_memory, run_bench
from g4cli.runtime.measure.messages import RunBench
from g4cli.runtime.measure.reports import BenchOptions, SpeedResult, parse_depths
from tests.support.builders.tiny_file import build_tiny


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    return path


def test_mean_and_deviation_are_those_of_the_samples() -> None:
    samples = (10.0, 12.0, 17.0)
    test = SpeedResult("pp512", 512, samples)
    assert (test.mean, test.stddev) == (13.0, statistics.stdev(samples))
    assert SpeedResult("tg1", 1, (3.0,)).stddev == 0.0


@pytest.mark.slow
def test_report(tiny: Path) -> None:
    steps: list[tuple[int, int, str]] = []
    report = run_bench(
        RunBench(tiny, ModelOptions(), BenchOptions(n_prompt=300, n_gen=8, repetitions=2)),
        progress=lambda *step: steps.append(step),
    )
    assert [(test.name, test.n_tokens, len(test.samples)) for test in report.tests] == [
        ("pp300", 300, 2),
        ("tg8", 8, 2),
    ]
    assert all(sample > 0 for test in report.tests for sample in test.samples)
    assert report.n_threads == 1, "a network this small is not shared out"
    assert report.load_s > 0
    assert steps[-1][:2] == (6, 6)
    # More than the weights, less than a gigabyte: the unit is bytes.
    # The process is that of all tests before: only the lower bound is this model's.
    assert report.weights_bytes < report.peak_bytes <= read_peak_memory()


@pytest.mark.slow
def test_behind_a_depth(tiny: Path) -> None:
    options = BenchOptions(n_prompt=16, n_gen=4, n_depths=(0, 300), repetitions=2)
    report = run_bench(RunBench(tiny, ModelOptions(), options))
    assert [(test.name, test.n_depth, len(test.samples)) for test in report.tests] == [
        ("pp16", 0, 2),
        ("tg4", 0, 2),
        ("pp16 @ d300", 300, 2),
        ("tg4 @ d300", 300, 2),
    ]


@pytest.mark.slow
def test_what_lies_in_memory_is_put_back_whole(tiny: Path) -> None:
    model = Model(tiny)
    context = Context(model, ContextOptions(n_ctx=512, n_ubatch=64, n_batch=64), Interrupt())
    for start in range(0, 300, 60):  # beyond the 256 cells of the sliding layers
        context.decode_tokens(range(100 + start, 160 + start))
    state = take_state(context)
    assert state is not None
    context.decode_with_logits([9])
    expected = np.frombuffer(context.copy_logits(), np.float32)
    context.decode_tokens([5, 6, 7])
    context.truncate(0)
    assert put_state(context, state)
    assert (context.find_last_position(), context.can_branch(300)) == (299, True)
    context.decode_with_logits([9])
    found = np.frombuffer(context.copy_logits(), np.float32)
    # The cells of sliding layers lie in another order, so sums are rounded differently: by up to
    # 0.0025 of the largest score, measured with ggml built for AMX, AVX2 and SSE.
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    context.close()
    model.close()


def test_depths() -> None:
    assert parse_depths("0, 100,4k") == (0, 100, 4096)
    with pytest.raises(UsageError):
        parse_depths("0,")


@pytest.mark.parametrize("size", [["-p", "2000000000"], ["-d", "3000000000"], ["-n", "3000000"]])
def test_a_test_longer_than_any_context_is_refused(
    size: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "no-such-model", *size]) == 2
    assert "at most 2,097,152" in capsys.readouterr().err


def test_json(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(tiny), "-p", "16", "-n", "4", "-r", "2", "--json"]) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [test["test"] for test in data["tests"]] == ["pp16", "tg4"]
    assert set(data) >= {"model", "load_s", "peak_memory_bytes", "n_threads", "kv_type", "tests"}
    assert set(data["tests"][0]) == {
        "test",
        "n_tokens",
        "n_depth",
        "tokens_per_s",
        "stddev",
        "samples",
    }


@pytest.mark.slow
def test_human_and_quiet(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(tiny), "-p", "16", "-n", "0", "-r", "1"]) == 0
    out = capsys.readouterr().out
    assert "pp16" in out
    assert "peak memory" in out
    assert run(["bench", str(tiny), "-p", "0", "-n", "4", "-r", "1", "-q"]) == 0
    assert capsys.readouterr().out.startswith("tg4 ")


def test_without_warming_up_every_run_counts(tiny: Path) -> None:
    steps: list[int] = []
    options = BenchOptions(n_prompt=0, n_gen=2, repetitions=2, warmup=False)
    request = RunBench(tiny, ModelOptions(), options)
    report = run_bench(request, progress=lambda done, *_: steps.append(done))
    assert len(report.tests[0].samples) == 2
    assert steps == [1, 2]


def test_nothing_to_measure(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", str(tiny), "-p", "0", "-n", "0"]) == 2
    assert "nothing to measure" in capsys.readouterr().err
