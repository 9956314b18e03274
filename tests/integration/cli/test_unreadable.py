"""Files that cannot be opened are typed errors with a hint; permission is denied by a patch."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from g4cli.cli.main import run
from g4cli.core.files import is_there
from tests.support.builders.tiny_file import build_tiny

COMMANDS = (
    ("doctor",),
    ("show",),
    ("fit",),
    ("chat", "-p", "hi"),
    ("quantize", "--type", "q4_0"),
)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_a_file_without_permission_is_a_usage_error(
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "secret.gguf"
    path.write_bytes(build_tiny())
    really = Path.open

    def denied(self: Path, *args: Any, **options: Any) -> Any:
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(self, *args, **options)

    monkeypatch.setattr(Path, "open", denied)
    assert run([command[0], str(path), *command[1:]]) == 2
    err = said(capsys)
    assert "secret.gguf cannot be read: Permission denied" in err
    assert "hint: ls -l" in err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_a_folder_that_may_not_be_searched_is_a_usage_error(
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "model.gguf"
    really = os.stat

    def denied(name: Any, *args: Any, **options: Any) -> Any:
        if str(name) == str(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return really(name, *args, **options)

    monkeypatch.setattr(os, "stat", denied)
    assert is_there(path)
    assert run([command[0], str(path), *command[1:]]) == 2
    assert "cannot be read: Permission denied" in said(capsys)


@pytest.mark.slow
def test_folders_and_sockets_are_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 108 bytes
    assert run(["doctor", str(tmp_path)]) == 2
    assert "is a directory" in said(capsys)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s.gguf")
        for command in COMMANDS:
            assert run([command[0], "./s.gguf", *command[1:]]) == 2
            assert "a pipe or a device" in said(capsys)


def test_a_name_that_no_file_system_takes_is_a_usage_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["doctor", "./" + "x" * 5000 + ".gguf"]) == 2
    assert "cannot be read" in said(capsys)
