"""Sound files that are not Gemma 4 text models are named, and their content is not judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from g4cli.cli.main import run
from g4cli.doctor.diagnose import diagnose_file, judge_facts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.report import Report
from tests.support.builders.damage import KINDS
from tests.support.builders.gguf import write_gguf
from tests.support.builders.other_kinds import MATRIX, PROJECTION, foreign_keys, mmproj_keys
from tests.support.builders.tiny_file import build_tiny


@pytest.mark.parametrize("command", ["chat", "fit", "bench", "eval"])
def test_commands_say_what_was_given_instead_of_a_model(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gemma3 = write_gguf(tmp_path / "gemma3.gguf", foreign_keys("gemma3"), [MATRIX])
    mmproj = write_gguf(tmp_path / "mmproj.gguf", mmproj_keys("gemma4v"), [PROJECTION])
    text = tmp_path / "text.txt"
    text.write_text("some words to score")
    more = {"chat": ["-p", "hi"], "eval": ["--text", str(text)]}.get(command, [])
    assert run([command, str(gemma3), *more]) == 5
    assert "this is Gemma 3 (gemma3, Q4_K_M), not Gemma 4; g4 runs Gemma 4 only" in read_error(
        capsys
    )
    assert run([command, str(mmproj), *more]) == 5
    assert f"g4 chat MODEL --mmproj {mmproj}" in read_error(capsys)


def read_error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what was said on stderr, unfolded."""
    return " ".join(capsys.readouterr().err.split())


def test_a_gemma_4_under_another_name_is_a_defect_and_no_other_model(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(KINDS["architecture-gemma3"](build_tiny()))
    report = judge_facts(gather_facts(path))
    assert (report.verdict, report.kind) == ("conversion-defect", "text-model")


def tiny_report(tmp_path: Path, *, depth: Any = "default", only: tuple[str, ...] = ()) -> Report:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    return judge_facts(gather_facts(path, depth, only=only), only)


@pytest.mark.slow
def test_healthy_is_said_only_of_what_was_looked_at(tmp_path: Path) -> None:
    quick = tiny_report(tmp_path, depth="quick")
    assert (quick.verdict, quick.exit_code) == ("not-checked", 0)
    assert quick.summary == "nothing wrong was found; not checked: tokenizer, weights, answers"
    assert quick.fix == f"g4 doctor {tmp_path / 'tiny.gguf'}"
    silent = tiny_report(tmp_path)
    assert silent.summary == "nothing wrong was found; not checked: tokenizer, answers"
    part = tiny_report(tmp_path, only=("file",))
    assert part.verdict == "not-checked"
    assert part.as_json()["kind"] == "text-model"


@pytest.mark.slow
def test_what_keeps_a_model_from_answering_is_part_of_the_verdict(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    report = diagnose_file(path, large_bytes=1000)
    assert report.verdict == "not-checked"
    assert "not checked: answers (" in report.summary
    assert "only with --deep" in report.summary
    assert report.fix == f"g4 doctor {path} --deep"
