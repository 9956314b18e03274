"""What the Hugging Face cache holds is found; what is damaged there is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.hub.cache import cached_repository

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
