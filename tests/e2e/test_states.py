"""The prompt cache as a user meets it: `g4 chat -p` about the same document, list, remove, off."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.paths import cache_dir
from tests.support.builders.tiny_file import build_tiny
from tests.support.run.command import g4, ok
from tests.support.schemas import validate_output

DOCUMENT = " ".join(f"line {number} says little." for number in range(80))


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home without states: each test begins with none."""
    path = tmp_path_factory.mktemp("states")
    (path / "tiny.gguf").write_bytes(build_tiny())
    return path


@pytest.fixture
def ask(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Asks a question about the document in a process of its own; returns the JSON document."""
    monkeypatch.setenv("G4_HOME", str(home))

    def call(question: str, *options: str) -> Any:
        monkeypatch.setattr("sys.stdin", io.StringIO(DOCUMENT))
        limits = ("--temp", "0", "-n", "4", "--ctx", "2048")
        return ok(capsys, "chat", str(home / "tiny.gguf"), "-p", question, *limits, *options)

    return call


def test_the_same_document_with_another_question_reads_the_question(
    ask: Any, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    first = ask("What does it say?")["usage"]
    second = ask("Who says it?")["usage"]
    assert first["cached_tokens"] == 0
    assert second["prompt_tokens"] - second["cached_tokens"] < 40
    without = ask("Who says it?", "--state-cache", "off")["usage"]
    assert without["cached_tokens"] == 0

    listed = ok(capsys, "list", "--states")
    validate_output(listed, "states")
    assert [row["file"] for row in listed["states"]] == [str(home / "tiny.gguf")]
    assert g4(capsys, "remove", "--states", "other", "--yes")[0] == 3
    assert ok(capsys, "remove", "--states", str(home / "tiny.gguf"), "--yes")["bytes"] > 0
    assert ok(capsys, "list", "--states")["states"] == []
    assert ask("What does it say?")["usage"]["cached_tokens"] == 0


def test_a_state_cache_that_is_off_writes_nothing(
    ask: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ask("What does it say?")  # probes the kernels
    monkeypatch.setattr("g4cli.store.states.limits.cache_dir", lambda: tmp_path / "cache")
    ask("What does it say?", "--state-cache", "off")
    ask("What does it say?", "--private")
    assert not (tmp_path / "cache").exists()
    assert cache_dir().is_dir()


def test_a_size_that_is_none_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("G4_HOME", str(home))
    model = str(home / "tiny.gguf")
    code, _, err = g4(capsys, "chat", model, "-p", "What?", "--state-cache", "much")
    assert code == 2
    assert "--state-cache 8G" in err
