"""Hashes of files against hashlib's own and git's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from g4cli.core.errors import FileMissing
from g4cli.core.hashing import git_oid_of, sha256_of


def test_a_file_longer_than_one_piece_has_hashlibs_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    told: list[tuple[int, int, str]] = []
    digest = sha256_of(path, progress=lambda *args: told.append(args))
    assert digest == hashlib.sha256(data).hexdigest()
    assert told[-1] == (len(data), len(data), "sha256 of model.gguf")
    assert len(told) > 1


def test_git_gives_the_same_id(tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    assert git_oid_of(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object hello


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        sha256_of(tmp_path / "gone")
