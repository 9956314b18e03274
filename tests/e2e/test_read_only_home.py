"""A G4_HOME that cannot be written: what needs no folder of g4's works as ever."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.support.builders.tiny_file import build_tiny
from tests.support.run.command import g4, ok


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a model outside a G4_HOME whose folders nobody can make, root included."""
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("G4_HOME", str(tmp_path / "file"))
    (tmp_path / "model.gguf").write_bytes(build_tiny())
    return tmp_path / "model.gguf"


@pytest.mark.slow
def test_a_chat_on_a_file(
    capsys: pytest.CaptureFixture[str], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    code, out, err = g4(capsys, "chat", model, "-p", "hi", "-n", "3", "--temp", "0")
    assert (code, "cannot be written" in err) == (0, False), err
    assert out


@pytest.mark.slow
@pytest.mark.parametrize("command", [["show"], ["fit"], ["doctor", "--quick"]])
def test_commands_that_only_read(
    capsys: pytest.CaptureFixture[str], model: Path, command: list[str]
) -> None:
    assert ok(capsys, command[0], model, *command[1:])


@pytest.mark.slow
def test_nothing_is_on_this_disk_then(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    assert model.is_file()
    assert ok(capsys, "list")["models"] == []
    code, _, err = g4(capsys, "pull", "tiny")
    assert (code, "cannot be written" in err) == (2, True)
    code, _, err = g4(capsys, "worker", "--cache")
    assert (code, "rpc cannot be made" in err) == (2, True)
