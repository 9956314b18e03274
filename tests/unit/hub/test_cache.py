"""What the Hugging Face cache holds is found; what is damaged there is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from g4cli.hub.cache import cached_file, cached_repository
from g4cli.hub.listing import RemoteFile

COMMIT = "c" * 40


@pytest.mark.parametrize(
    ("ref", "is_found"), [(COMMIT.encode(), True), (b"\xff\xfe", False), (b"../..", False)]
)
def test_the_commit_of_main(tmp_path: Path, ref: bytes, is_found: bool) -> None:
    folder = tmp_path / "models--a--b"
    for name in (f"snapshots/{COMMIT}/m.gguf", "refs/main"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(ref)
    found = cached_repository(tmp_path, "a/b")
    assert (found.commit if found else None) == (COMMIT if is_found else None)


def test_a_file_that_may_not_be_read_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RemoteFile("m.gguf", 1, "a" * 64)
    blob = tmp_path / "models--o--r" / "blobs" / file.sha256
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"x")
    assert cached_file(tmp_path, "o/r", file) == blob
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert cached_file(tmp_path, "o/r", file) is None
