"""More threads than logical cores are refused by every command that takes --threads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from g4cli.cli.main import run
from g4cli.cli.options.common import check_threads
from g4cli.core.errors import UsageError


@pytest.mark.parametrize("command", ["chat", "bench", "eval", "quantize", "convert"])
def test_many_more_threads_than_cores_are_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, str(tmp_path / "absent.gguf"), "--threads", "100000"]) == 2
    err = " ".join(capsys.readouterr().err.split())
    assert "100,000 threads would stall each other" in err
    assert "--threads" in err.split("hint:")[1]


def test_as_many_threads_as_cores_are_taken_and_more_if_forced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert [check_threads(n) for n in (None, 0, 1, 4)] == [None, 0, 1, 4]
    with pytest.raises(UsageError, match="the 4 cores"):
        check_threads(5)
    monkeypatch.setenv("G4_FORCE_THREADS", "0")
    with pytest.raises(UsageError):
        check_threads(5)
    monkeypatch.setenv("G4_FORCE_THREADS", "1")
    assert check_threads(5) == 5
