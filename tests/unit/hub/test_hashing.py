"""The hash of a growing file is the file's, however its blocks arrive."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from g4cli.core.errors import BadFile, HashMismatch
from g4cli.hub.hashing import Hasher
from g4cli.hub.journal import Goal, Partial

DATA = random.Random(1).randbytes(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()


def partial_of(tmp_path: Path, sha: str = SHA, git_oid: str = "") -> Partial:
    return Partial(tmp_path / "m.gguf", Goal(len(DATA), sha, git_oid))


def block_of(at: int, end: int) -> memoryview:
    return memoryview(bytearray(DATA[at:end]))


def run_hasher(hasher: Hasher) -> Hasher:
    hasher.join(60)
    assert not hasher.is_alive()
    return hasher


def test_blocks_in_order_never_touch_the_file(tmp_path: Path) -> None:
    given: list[memoryview] = []
    hasher = Hasher(partial_of(tmp_path), threading.Event(), given.append)
    hasher.start()
    blocks = [block_of(at, at + 500_000) for at in range(0, len(DATA), 500_000)]
    for n, one in enumerate(blocks):
        assert hasher.offer_block(n * 500_000, one, len(one))
    run_hasher(hasher).check_hash("m")  # nothing was ever written to the partial
    assert given == blocks
    assert hasher.hashed_bytes == len(DATA)


def test_git_s_hash_works_where_sha1_is_forbidden_for_security(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha1 = hashlib.sha1

    def fips_sha1(data: bytes = b"", *, usedforsecurity: bool = True) -> hashlib._Hash:
        """As with OpenSSL's FIPS provider."""
        if usedforsecurity:
            raise ValueError("disabled for FIPS")
        return sha1(data, usedforsecurity=False)

    monkeypatch.setattr(hashlib, "sha1", fips_sha1)
    oid = sha1(f"blob {len(DATA)}\0".encode() + DATA, usedforsecurity=False).hexdigest()
    hasher = Hasher(partial_of(tmp_path, "", oid), threading.Event(), lambda _: None)
    hasher.start()
    assert hasher.offer_block(0, block_of(0, len(DATA)), len(DATA))
    run_hasher(hasher).check_hash("m")


@pytest.mark.parametrize("seed", range(4))
def test_blocks_in_any_order(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    partial = partial_of(tmp_path)
    hasher = Hasher(partial, threading.Event(), lambda _: None)
    edges = sorted({0, len(DATA), *(chance.randrange(len(DATA)) for _ in range(40))})
    spans = list(pairwise(edges))
    # A few out of place, as from several connections; one part was here before.
    for at, end in spans[10:14]:
        partial.write(at, block_of(at, end))
    spans[10:14] = []
    for _ in range(12):
        i = chance.randrange(len(spans) - 1)
        spans[i], spans[i + 1] = spans[i + 1], spans[i]
    hasher.start()
    for at, end in spans:
        one = block_of(at, end)
        partial.write_unrecorded(at, one)
        hasher.offer_block(at, one, end - at)
        partial.note_span(at, end)
        time.sleep(chance.choice([0, 0, 0.002]))
    run_hasher(hasher).check_hash("m")


def test_the_hash_of_git(tmp_path: Path) -> None:
    oid = hashlib.sha1(f"blob {len(DATA)}\0".encode() + DATA).hexdigest()
    partial = partial_of(tmp_path, "", oid)
    partial.write(0, block_of(0, len(DATA)))
    hasher = Hasher(partial, threading.Event(), lambda _: None)
    hasher.start()
    run_hasher(hasher).check_hash("m")


def test_a_wrong_content_and_a_file_that_shrinks(tmp_path: Path) -> None:
    partial = partial_of(tmp_path, "0" * 64)
    partial.write(0, block_of(0, len(DATA)))
    hasher = Hasher(partial, threading.Event(), lambda _: None)
    hasher.start()
    with pytest.raises(HashMismatch, match=SHA):
        run_hasher(hasher).check_hash("m")
    os.truncate(partial.path, 2_500_000)
    hasher = Hasher(partial, threading.Event(), lambda _: None)
    hasher.start()
    with pytest.raises(BadFile, match="became shorter"):
        run_hasher(hasher).check_hash("m")


def test_blocks_come_back_when_the_file_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = partial_of(tmp_path)
    partial.write(0, block_of(0, 2_000_000))
    reading, go_on = threading.Event(), threading.Event()

    def raise_io_error(*_: object) -> int:
        reading.set()
        assert go_on.wait(60)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(partial, "readinto", raise_io_error)
    given: list[memoryview] = []
    hasher = Hasher(partial, threading.Event(), given.append)
    hasher.start()
    assert reading.wait(60)
    one = block_of(1_048_576, 1_500_000)
    assert hasher.offer_block(1_048_576, one, len(one))
    go_on.set()
    with pytest.raises(BadFile, match="Input/output error"):
        run_hasher(hasher).check_hash("m")
    assert given == [one]
    assert not hasher.offer_block(1_500_000, one, len(one))  # nobody would give it back


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    stop = threading.Event()
    hasher = Hasher(partial_of(tmp_path), stop, lambda _: None)
    hasher.start()
    stop.set()
    assert not run_hasher(hasher).is_alive()
