"""The doctor on real files: the bundled model, and copies of it that are broken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from g4cli.cli.main import run
from g4cli.cli.output import Output
from g4cli.cli.views.doctor import draw_report
from g4cli.core.errors import UsageError
from g4cli.doctor.diagnose import diagnose_file, judge_facts, probe_file
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.report import Finding, Report
from tests.support.builders import shapes
from tests.support.builders.damage import DAMAGES, GGUF, KINDS, Damage, changed, value
from tests.support.builders.gguf import F32, build_gguf
from tests.support.builders.healthy import fixture_files
from tests.support.builders.real_shapes import build, synthetic_vocabulary
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.hub import FakeHub, FakeRepo, running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the bundled model as BF16 and its two broken copies of the demo."""
    folder = tmp_path_factory.mktemp("doctor")
    data = build_tiny()
    (folder / "tiny.gguf").write_bytes(data)
    for kind in ("truncate", "dashes"):
        (folder / f"{kind}.gguf").write_bytes(KINDS[kind](data))
    return folder


@pytest.fixture(scope="module")
def dashes(folder: Path) -> Report:
    """Return the report on the looping copy."""
    return diagnose_file(folder / "dashes.gguf")


def test_the_bundled_model_is_healthy(folder: Path) -> None:
    report = diagnose_file(folder / "tiny.gguf")
    assert report.verdict == "healthy"
    assert report.exit_code == 0
    assert {f.status for f in report.findings} == {"ok", "skipped"}
    skipped = {f.id for f in report.findings if f.status == "skipped"}
    assert skipped == {
        "file.hash",
        "mmproj.projector",
        "mmproj.pair",
        "tensors.parts",
        "tokenizer.suppressed",
        "weights.sfp8",
        "probe.configs",
        "probe.formats",
    }


def test_a_truncated_copy_names_the_missing_bytes(folder: Path) -> None:
    report = diagnose_file(folder / "truncate.gguf")
    missing = (folder / "tiny.gguf").stat().st_size - (folder / "truncate.gguf").stat().st_size
    assert (report.verdict, report.confidence, report.exit_code) == ("file-damaged", "certain", 8)
    assert f"{missing:,} bytes" in report.evidence[0]
    assert str((folder / "truncate.gguf").stat().st_size) in report.fix


@pytest.mark.slow
def test_the_dashes_are_a_conversion_defect_with_five_proofs(dashes: Report) -> None:
    report = dashes
    assert (report.verdict, report.exit_code) == ("conversion-defect", 8)
    failed = {f.id: f.found for f in report.findings if f.status == "fail"}
    assert set(failed) == {
        "tensors.tied",
        "weights.zero",
        "weights.duplicates",
        "probe.loop",
        "probe.answers",
    }
    assert "30 of 162 tensors" in failed["weights.zero"]
    assert (
        "6 of 6 answers repeat '---\\n' from token 1 on, and nothing else" in failed["probe.loop"]
    )


def test_quick_reads_the_header_only(folder: Path) -> None:
    report = diagnose_file(folder / "dashes.gguf", depth="quick")
    assert [f.id for f in report.findings if f.status == "fail"] == ["tensors.tied"]
    assert {"weights", "probe"} <= {
        f.id.split(".")[0] for f in report.findings if f.status == "skipped"
    }
    assert not [
        f
        for f in report.findings
        if f.id.startswith(("weights", "probe")) and f.status != "skipped"
    ]


def test_only_runs_what_is_named(folder: Path) -> None:
    report = diagnose_file(folder / "tiny.gguf", only=("file.size", "keys"), depth="quick")
    assert {f.id.split(".")[0] for f in report.findings} == {"file", "keys"}
    assert [f.id for f in report.findings if f.id.startswith("file")] == ["file.size"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b'{"error":"Repository not found"}', "JSON error"),
        (b"PK\x03\x04" + bytes(40), "zip archive"),
        (b"tjgg" + bytes(40), "GGJT"),
        (bytes(8192), "zeros"),
        (b"", "empty"),
        (b"hello, world", "not a GGUF"),
    ],
)
def test_what_is_no_gguf_is_named_and_leaves_with_5(
    tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    report = diagnose_file(path)
    assert (report.verdict, report.exit_code) == ("not-a-gguf", 5)
    assert said in report.evidence[0]
    assert report.fix


@pytest.mark.slow
def test_the_command_prints_json_and_leaves_with_the_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", str(folder / "truncate.gguf"), "--json"]) == 8
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "file-damaged"
    assert {"id", "status", "found", "fix"} <= set(answer["findings"][0])
    assert answer["findings"][0]["id"] == "file.size"


@pytest.mark.slow
def test_the_screen_is_worst_first(dashes: Report, capsys: pytest.CaptureFixture[str]) -> None:
    draw_report(Output(), dashes)
    text = capsys.readouterr().out
    assert text.startswith("CONVERSION DEFECT")
    assert text.index("FAIL") < text.index("checks passed") < text.index("next: ")
    assert len(text.splitlines()) < 24


@pytest.mark.parametrize(("count", "said"), [(1, "1 does not apply"), (2, "2 do not apply")])
def test_checks_that_do_not_apply_are_counted(
    count: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Finding("ok", "complete", id="file.size")
    skipped = [Finding("skipped", "not an mmproj file", id=f"mmproj.x{i}") for i in range(count)]
    draw_report(Output(), Report("m", "healthy", "high", "sound", (), "", (found, *skipped)))
    assert f"{said} (mmproj)" in capsys.readouterr().out


def test_a_check_that_was_asked_for_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    findings = (Finding("ok", "tied", id="tensors.tied"), Finding("ok", "no loop", id="probe.loop"))
    draw_report(Output(), Report("m", "not-checked", "high", "sound", (), "", findings))
    assert "no loop" in capsys.readouterr().out


def test_an_unknown_check_is_a_usage_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", str(folder / "tiny.gguf"), "--only", "vibes"]) == UsageError.exit_code
    assert "families: file keys" in capsys.readouterr().err


def test_a_directory_and_an_absent_file_are_told_apart(tmp_path: Path) -> None:
    assert run(["doctor", str(tmp_path)]) == 2
    assert run(["doctor", str(tmp_path / "absent.gguf")]) == 3


@pytest.fixture(scope="module")
def good() -> bytes:
    """Return the bundled model as a BF16 GGUF."""
    return build_tiny()


# A few of each family in the default run; tests/bench/bench_doctor.py makes all of them, and lets
# them talk.
SLOW = ("q4_0", "q5_k", "q6_k", "shifted", "random", "zero-hole")
ONE_OF_EACH_KIND = (
    "dashes", "q8_0-random-page", "sfp8-name", "template-poison", "window-1024", "bos-1",
    "truncate", "merges-missing", "tensors-renamed", "lfs-pointer", "array-huge", "key-twice",
    "extent-overflow", "version-9",
)  # fmt: skip
SHOWN_BY_THE_FILE = [d for d in DAMAGES if not d.needs_run and not d.name.startswith(SLOW)]


@pytest.mark.slow_except(*ONE_OF_EACH_KIND)
@pytest.mark.parametrize("damage", SHOWN_BY_THE_FILE, ids=lambda d: d.name)
def test_each_damage_gets_the_right_verdict(damage: Damage, good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(damage.make(good))
    report = judge_facts(gather_facts(path))
    assert report.verdict in damage.verdicts, report.evidence
    assert report.exit_code == (5 if report.verdict == "not-a-gguf" else 8)
    assert report.fix
    assert not [f for f in report.findings if f.status == "crash"]


def test_there_are_many_kinds_of_damage() -> None:
    assert len({d.name for d in DAMAGES}) == len(DAMAGES) >= 100


REPO = "someone/tiny-GGUF"


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Return a hub on the loopback address with the looping copy and a file that is no GGUF."""
    files = {"dashes.gguf": (folder / "dashes.gguf").read_bytes(), "page.gguf": b"<html>" * 500}
    state = FakeHub(repos={REPO: FakeRepo(lfs=files)})
    with running(state):
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


@pytest.mark.slow
def test_a_file_on_the_hub_is_examined_by_its_header(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", f"hf:{REPO}/dashes.gguf", "--quick", "--json"]) == 8
    report = json.loads(capsys.readouterr().out)
    assert report["verdict"] == "conversion-defect"
    assert [f["id"] for f in report["findings"] if f["status"] == "fail"] == ["tensors.tied"]
    assert sum(end - start for start, end in hub.ranges) <= 1 << 20


@pytest.mark.slow
@pytest.mark.usefixtures("hub")
def test_a_page_on_the_hub_is_no_gguf(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", f"hf:{REPO}/page.gguf", "--quick"]) == 5
    assert "HTML page" in capsys.readouterr().out


def test_the_hub_needs_quick(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", f"hf:{REPO}/dashes.gguf"]) == 2
    assert "--quick" in capsys.readouterr().err


@pytest.mark.slow
def test_fix_writes_a_copy_and_judges_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, mended, report = tmp_path / "b.gguf", tmp_path / "m.gguf", tmp_path / "r.md"
    broken.write_bytes(KINDS["eos-107"]((folder / "tiny.gguf").read_bytes()))
    arguments = [
        "doctor",
        str(broken),
        "--quick",
        "--fix",
        str(mended),
        "--report",
        str(report),
        "--json",
    ]
    assert run(arguments) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["repair"]["verdict"]) == ("tokenizer", "not-checked")
    assert mended.read_bytes() == (folder / "tiny.gguf").read_bytes()
    assert report.read_text().startswith("# g4 doctor: tokenizer")


@pytest.mark.slow
@pytest.mark.parametrize("record", ["file", "cache"])
def test_a_flipped_bit_shows_in_the_hash_on_record(
    record: str, folder: Path, tmp_path: Path
) -> None:
    data = (folder / "tiny.gguf").read_bytes()
    sha = hashlib.sha256(data).hexdigest()
    path = tmp_path / "model.gguf"
    if record == "cache":
        (tmp_path / "blobs").mkdir()
        path.symlink_to(tmp_path / "blobs" / sha)
    else:
        (tmp_path / "model.gguf.sha256").write_text(f"{sha}  model.gguf\n")
    path.write_bytes(data)
    assert {f.id: f.status for f in judge_facts(gather_facts(path)).findings}["file.hash"] == "ok"
    path.write_bytes(data[:-40_000] + bytes([data[-40_000] ^ 1]) + data[-39_999:])
    report = judge_facts(gather_facts(path))
    assert [f.id for f in report.findings if f.status == "fail"] == ["file.hash"]
    assert report.verdict == "file-damaged"


def build_mmproj(width: int, kind: str = "gemma4v") -> bytes:
    """Return a small mmproj file of a projection width."""
    weights = np.linspace(-1, 1, 32 * width, dtype="<f4").tobytes()
    keys = [
        ("general.architecture", "str", "clip"),
        ("clip.has_vision_encoder", "bool", True),
        ("clip.vision.projector_type", "str", kind),
        ("clip.vision.projection_dim", "u32", width),
    ]
    return build_gguf(keys, [("mm.input_projection.weight", F32, [32, width], weights)])


@pytest.mark.parametrize(
    ("width", "kind", "verdict"),
    [
        (256, "gemma4v", "not-checked"),
        (128, "gemma4v", "conversion-defect"),
        (256, "pixtral", "not-checked"),
        (256, "", "conversion-defect"),
    ],
)
def test_an_mmproj_is_compared_with_the_model_beside_it(
    width: int, kind: str, verdict: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "model.gguf").write_bytes((folder / "tiny.gguf").read_bytes())
    path = tmp_path / "mmproj.gguf"
    path.write_bytes(build_mmproj(width, kind))
    assert diagnose_file(path).verdict == verdict


def test_a_random_network_is_no_damage_and_no_model_either(tmp_path: Path) -> None:
    vocabulary = synthetic_vocabulary(768)
    path = build(
        tmp_path / "m.gguf", "tiny", shapes.TINY, "q4_0", weights="random", vocabulary=vocabulary
    )
    report = judge_facts(gather_facts(path), ("weights", "probe"))
    assert (report.verdict, report.exit_code) == ("not-checked", 0)
    assert (
        report.summary
        == "its weights are random: the network was never trained; not checked: tokenizer, answers"
    )


@pytest.mark.slow
def test_numbers_at_the_end_of_their_range_make_no_noise(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(changed("output_norm.weight", lambda v: v * 0 + np.float32(3e38))(good))
    assert not gather_facts(path).is_untrained  # a RuntimeWarning would fail the test
    assert judge_facts(gather_facts(path)).verdict == "file-damaged"


@pytest.mark.slow
def test_converted_encoders_and_fixtures_are_not_called_broken(tmp_path: Path) -> None:
    """Limits of clipped layers are infinite in some. With answers: tests/bench/bench_doctor.py."""
    judged = {path.stem: judge_facts(gather_facts(path)) for path in fixture_files(tmp_path)}
    assert len(judged) == 13
    assert {name: report.evidence for name, report in judged.items() if report.exit_code} == {}
    assert {report.verdict for report in judged.values()} == {"not-checked"}


def test_what_to_type_has_the_names_of_file_copy_and_model(
    folder: Path, good: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "my model.gguf"
    path.write_bytes(KINDS["eos-107"](good))
    assert (
        diagnose_file(path, depth="quick").fix
        == f"g4 doctor '{path}' --fix 'my model-repaired.gguf'"
    )
    assert "g4 pull tiny" in diagnose_file(folder / "dashes.gguf", depth="quick").fix


def probe_facts(path: Path, *only: str) -> FileFacts:
    return probe_file(gather_facts(path, "deep", only=only), path, only=only)


def test_a_single_check_costs_what_it_needs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are read and llama.cpp is asked only for the checks that look at them."""
    monkeypatch.setattr("g4cli.doctor.probe.child.ask_child", None)
    monkeypatch.setattr("g4cli.doctor.probe.tokenizer.ask_child", None)
    facts = probe_facts(folder / "tiny.gguf", "weights")
    assert (len(facts.stats), facts.probe, facts.tokenizer) == (161, None, None)
    monkeypatch.setattr("g4cli.doctor.facts.gather.scan_tensors", None)
    facts = probe_facts(folder / "tiny.gguf", "template", "tensors.tied", "file.size")
    assert (facts.stats, facts.probe, facts.tokenizer) == ((), None, None)


@pytest.mark.slow
def test_a_placeholder_without_weights_is_not_called_broken(good: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    header = good[: good.index(next(iter(GGUF(good).tensors.values()))[2])]
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(good))
    report = judge_facts(gather_facts(path))
    assert (report.verdict, report.exit_code) == ("unknown", 0)
    assert "no weights yet" in report.evidence[0]


def test_a_template_of_megabytes_is_named_and_not_looked_at(folder: Path) -> None:
    """Its searches took 34 seconds for 48 MB."""
    file = GGUF((folder / "tiny.gguf").read_bytes())
    file.keys["tokenizer.chat_template"] = value("str", "<|turn>" + "x" * (1 << 18))
    path = folder / "long.gguf"
    path.write_bytes(file.encode())
    found = {f.id: f for f in diagnose_file(path, depth="quick").findings}
    assert "262,151 characters" in found["template.present"].found
    assert found["template.present"].status == "fail"
    assert found["template.safe"].status == found["template.revision"].status == "skipped"
