"""The hash beside another reader: right, in order, never far ahead, stopped when unwanted."""

from __future__ import annotations

import hashlib
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from g4cli.quant import file_hash
from g4cli.quant.file_hash import FileHash


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    found = []
    for number in (1, 2):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(bytes([number]) * 5000)
        found.append(path)
    return found


def test_parts_are_hashed_one_after_another(parts: list[Path]) -> None:
    with closing(FileHash(parts, piece_bytes=999)) as hashing:
        assert hashing.wait_for_digest() == hashlib.sha256(b"\1" * 5000 + b"\2" * 5000).hexdigest()
    with closing(FileHash(())) as hashing:
        assert hashing.wait_for_digest() == hashlib.sha256().hexdigest()


def test_it_waits_for_the_other_reader(parts: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    sha256 = hashlib.sha256

    class Counted:
        """sha256 that also notes how many bytes it has taken."""

        def __init__(self) -> None:
            self.n, self.whole = 0, sha256()

        def update(self, data: bytes) -> None:
            self.whole.update(data)
            self.n += len(data)
            seen.append(self.n)

        def hexdigest(self) -> str:
            return self.whole.hexdigest()

    monkeypatch.setattr(file_hash.hashlib, "sha256", Counted)

    def comes_to(n_bytes: int) -> bool:
        deadline = time.monotonic() + 60
        while n_bytes not in seen and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.02)  # it would go on by now
        return seen[-1] == n_bytes

    with closing(FileHash(parts, piece_bytes=100, lead_bytes=1000)) as hashing:
        assert comes_to(1000)
        hashing.allow_share(0.5)
        assert comes_to(6000)
        hashing.wait_for_digest()
    assert seen[-1] == 10000


def test_leaving_early_stops_the_thread(parts: list[Path]) -> None:
    with pytest.raises(KeyboardInterrupt), closing(FileHash(parts, piece_bytes=1, lead_bytes=1)):
        raise KeyboardInterrupt
    assert not [t for t in threading.enumerate() if t.name.startswith("file-hash")]


def test_a_file_that_cannot_be_read_is_told(parts: list[Path]) -> None:
    with closing(FileHash(parts, lead_bytes=1)) as hashing:
        parts[1].unlink()
        with pytest.raises(FileNotFoundError):
            hashing.wait_for_digest()
