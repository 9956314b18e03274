"""Records are optional and private, and trusted only if no other user can write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from g4cli.core.records import read_record, write_record


def test_a_record_comes_back_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "cache" / "kernels.json"
    assert write_record(path, {"a": [1]})
    assert read_record(path) == {"a": [1]}
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_without_its_folder_a_record_is_neither_written_nor_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert not write_record(tmp_path / "file" / "cache" / "kernels.json", {})
    assert read_record(tmp_path / "file" / "cache" / "kernels.json") is None


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[" * 100_000, b"9" * 5000, b"\xff", b'"' + b"x" * (1 << 20) + b'"']
)
def test_a_damaged_record_is_read_as_none(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "r.json"
    assert write_record(path, 1)
    path.write_bytes(text)
    assert read_record(path) is None


def test_a_record_that_others_may_write_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_record(path, 1)
    for mode in (0o620, 0o602, 0o666):
        path.chmod(mode)
        assert read_record(path) is None
    path.chmod(0o644)
    assert read_record(path) == 1


def test_a_record_of_another_user_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.json"
    write_record(path, 1)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert read_record(path) is None


def test_a_pipe_or_a_link_is_read_as_none(tmp_path: Path) -> None:
    real, path = tmp_path / "real.json", tmp_path / "r.json"
    write_record(real, 1)
    path.symlink_to(real)
    assert read_record(path) is None
    path.unlink()
    os.mkfifo(path)
    assert read_record(path) is None
