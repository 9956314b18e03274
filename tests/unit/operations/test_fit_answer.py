"""The operation behind `g4 fit`: a request in, an answer out; a Reporter hears the warnings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from g4cli.core.errors import UsageError
from g4cli.core.units import GIB
from g4cli.operations.fit.answer import answer_fit
from g4cli.operations.fit.machine import find_request_machine
from g4cli.operations.fit.request import FitRequest
from tests.support.fakes.reporter import RecordingReporter


@pytest.mark.slow
def test_the_answer_is_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = RecordingReporter()
    answer = answer_fit(FitRequest(model="12b", ctx=8192, memory_bytes=8 * GIB), reporter)
    assert not answer.plan.verdict.fits
    assert answer.plan.options.n_ctx == 8192
    assert answer.machine.description == "a machine with 8.00 GiB"
    assert answer.alternative.startswith("e4b:q4_0 fits with ")
    assert answer.alternative.endswith(": g4 fit e4b --memory 8G"), "about the same machine"
    assert (reporter.messages, reporter.warnings) == ([], [])
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_what_fits_instead_is_one_story() -> None:
    """A smaller model is also looked for with what saves memory; one advice, not two."""
    answer = answer_fit(FitRequest(model="e4b", memory_bytes=4 * GIB), RecordingReporter())
    assert answer.alternative.startswith("e2b:q4_0 fits with ")
    assert "g4 fit e2b --memory 4G --lazy-ple on --ctx max" in answer.alternative
    small = answer_fit(FitRequest(model="e2b", memory_bytes=4 * GIB), RecordingReporter())
    assert small.alternative.endswith("--lazy-ple on --ctx max")
    assert small.ranking is not None
    assert "smaller model" not in small.ranking.reason


def test_a_context_beyond_the_training_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 2,048"):
        answer_fit(FitRequest(model="tiny", ctx=2049, memory_bytes=8 * GIB), RecordingReporter())
    one = FitRequest(model="tiny", ctx=4096, n_seq=2, memory_bytes=8 * GIB)
    assert answer_fit(one, RecordingReporter()).plan.verdict.fits
    with pytest.raises(UsageError, match="a context of 2,049 tokens"):
        answer_fit(replace(one, ctx=4098), RecordingReporter())


def test_one_type_has_one_size_in_all_tables() -> None:
    answer = answer_fit(FitRequest(model="tiny", memory_bytes=8 * GIB), RecordingReporter())
    assert answer.ranking is not None
    row = next(row for row in answer.ranking.types if row.type == "bf16")
    assert row.weights_bytes == answer.subject.weight_bytes
    assert row.total_bytes == answer.plan.estimate.total_bytes


def test_a_machine_with_workers_is_described_by_all_of_its_options() -> None:
    request = FitRequest(model="tiny", memory_bytes=8 * GIB, worker_memory_bytes=(16 * GIB, GIB))
    machine = find_request_machine(request)
    assert machine.options == " --memory 8G --worker-memory 16G,1G"
    assert [memory.total_bytes for memory in machine.memories] == [8 * GIB, 16 * GIB, GIB]


def test_another_build_of_the_library_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g4cli.operations.fit.answer.engine_version", lambda: "0.4.0")
    reporter = RecordingReporter()
    answer = answer_fit(FitRequest(model="tiny", memory_bytes=8 * GIB), reporter)
    assert answer.library == "0.4.0"
    assert len(reporter.warnings) == 1


def test_the_weights_of_a_published_file_are_counted_without_a_made_up_tensor() -> None:
    answer = answer_fit(FitRequest(model="e2b:q6_k", memory_bytes=32 * GIB), RecordingReporter())
    subject = answer.subject
    assert all(tensor.nbytes > 0 for tensor in subject.tensors)
    assert subject.unlisted_bytes > 100_000_000
    assert answer.plan.estimate.weights_bytes == subject.weight_bytes
