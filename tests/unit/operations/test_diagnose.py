"""The operation behind `g4 doctor`: a request in, a diagnosis out."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest

from g4cli.core.errors import UsageError
from g4cli.operations.diagnose import DiagnoseRequest, run_diagnosis
from tests.support.builders.damage import KINDS, value, with_key
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.reporter import RecordingReporter
from tests.support.paths import ROOT

SCHEMA = ROOT / "docs" / "reference" / "schemas" / "doctor.json"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Return a copy of the bundled model with a wrong end-of-sequence token."""
    path = tmp_path / "broken.gguf"
    path.write_bytes(KINDS["eos-107"](build_tiny()))
    return path


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (DiagnoseRequest("hf:someone/model"), "only the header"),
        (DiagnoseRequest(None, repaired=Path("x.gguf")), "--fix needs a local file"),
        (DiagnoseRequest("hf:a/b", depth="quick", repaired=Path("x.gguf")), "--fix needs a local"),
        (DiagnoseRequest(None, only=("weights",)), "unknown check: weights"),
        (DiagnoseRequest("x.gguf", only=("machine.gpu",)), "unknown check: machine.gpu"),
    ],
)
def test_a_request_that_cannot_work_is_refused_first(
    request_: DiagnoseRequest, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run_diagnosis(request_, RecordingReporter())


@pytest.mark.parametrize("name", [".", "x" * 5000])
@pytest.mark.parametrize("option", ["repaired", "bug_report"])
def test_a_file_that_cannot_be_written_is_refused_first(option: str, name: str) -> None:
    request = DiagnoseRequest("absent.gguf", **{option: Path(name)})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"exists|is a directory|cannot be written"):
        run_diagnosis(request, RecordingReporter())


def test_the_copy_is_not_overwritten_by_the_report(broken: Path) -> None:
    out = broken.with_name("out")
    request = DiagnoseRequest(str(broken), depth="quick", repaired=out, bug_report=out)
    with pytest.raises(UsageError, match="need two files"):
        run_diagnosis(request, RecordingReporter())


def test_a_copy_is_judged_by_the_checks_that_were_asked_for(tmp_path: Path) -> None:
    """Other warnings, which the file has too, do not make the copy worse."""
    path, copy = tmp_path / "m.gguf", tmp_path / "copy.gguf"
    omits_bos = with_key("tokenizer.ggml.add_bos_token", value("bool", False))
    path.write_bytes(with_key("gemma4.context_length", value("u32", 512))(omits_bos(build_tiny())))
    only = ("tokenizer.ids",)
    request = DiagnoseRequest(str(path), depth="quick", only=only, repaired=copy)
    assert run_diagnosis(request, RecordingReporter()).is_kept


def test_a_copy_that_was_not_judged_is_not_left(
    broken: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("g4cli.operations.diagnose.is_better", stop)
    copy = broken.with_name("copy.gguf")
    with pytest.raises(KeyboardInterrupt):
        run_diagnosis(DiagnoseRequest(str(broken), "quick", repaired=copy), RecordingReporter())
    assert list(broken.parent.iterdir()) == [broken]


@pytest.mark.slow
def test_a_repaired_copy_and_a_bug_report_are_written(broken: Path, tmp_path: Path) -> None:
    reporter = RecordingReporter()
    copy, report = tmp_path / "copy.gguf", tmp_path / "report.md"
    request = DiagnoseRequest(str(broken), depth="quick", repaired=copy, bug_report=report)
    diagnosis = run_diagnosis(request, reporter)
    assert (diagnosis.report.exit_code, diagnosis.exit_code) == (8, 0)
    assert diagnosis.is_kept
    assert copy.read_bytes() == build_tiny()
    assert diagnosis.as_json()["repair"]["path"] == str(copy)
    jsonschema.validate(diagnosis.as_json(), json.loads(SCHEMA.read_text()))
    assert report.read_text(encoding="utf-8").startswith("# g4 doctor: tokenizer")
    assert reporter.messages == [f"report written to {report}"]
    assert [label for label, _ in reporter.jobs] == [
        "examine broken.gguf",
        "write copy.gguf",
        "examine copy.gguf",
    ]


@pytest.mark.slow
def test_the_memory_that_this_process_may_use_decides_whether_a_model_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit of a container counts, which /proc/meminfo does not know."""
    host = SimpleNamespace(total_bytes=4096, available_bytes=2048)
    monkeypatch.setattr("g4cli.operations.diagnose.host.read_host", lambda: host)
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    request = DiagnoseRequest(str(path), only=("probe.load",))
    (finding,) = run_diagnosis(request, RecordingReporter()).report.findings
    assert finding.status == "skipped"
    assert "do not fit into" in finding.found
