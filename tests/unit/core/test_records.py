"""Records of earlier probes are optional, private, and trusted only from this user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from g4cli.core.records import read_record, write_record


def test_a_record_comes_back_and_is_private(tmp_path: Path) -> None:
    place = tmp_path / "cache" / "kernels.json"
    assert write_record(place, {"a": [1]})
    assert read_record(place) == {"a": [1]}
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert not write_record(tmp_path / "file" / "cache" / "kernels.json", {})
    assert read_record(tmp_path / "file" / "cache" / "kernels.json") is None


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[" * 100_000, b"9" * 5000, b"\xff", b'"' + b"x" * (1 << 20) + b'"']
)
def test_damaged_records_are_none(tmp_path: Path, text: bytes) -> None:
    place = tmp_path / "r.json"
    assert write_record(place, 1)
    place.write_bytes(text)
    assert read_record(place) is None


def test_a_record_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    place = tmp_path / "r.json"
    write_record(place, 1)
    for mode in (0o620, 0o602, 0o666):
        place.chmod(mode)
        assert read_record(place) is None
    place.chmod(0o644)
    assert read_record(place) == 1


def test_a_record_of_another_user_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "r.json"
    write_record(place, 1)
    if os.geteuid() == 0:
        os.chown(place, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert read_record(place) is None


def test_a_pipe_or_a_link_in_its_place_is_none(tmp_path: Path) -> None:
    real, place = tmp_path / "real.json", tmp_path / "r.json"
    write_record(real, 1)
    place.symlink_to(real)
    assert read_record(place) is None
    place.unlink()
    os.mkfifo(place)
    assert read_record(place) is None
