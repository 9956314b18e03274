"""Blocks between the network and the disk: written in order, noted, given back whatever happens."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from g4cli.core.errors import NoSpace
from g4cli.hub.blocks import BLOCK_BYTES, Pool, Writer
from g4cli.hub.hashing import Hasher
from g4cli.hub.journal import SYNC_BYTES, Goal, Partial


class Line:
    """A pool, a writer and a hasher over one partial, as a transfer has them."""

    def __init__(self, folder: Path, nbytes: int, sync_bytes: int = SYNC_BYTES) -> None:
        goal = Goal(nbytes, "")
        self.partial = Partial(folder / "m.gguf", goal, sync_bytes=sync_bytes)
        self.errors: list[BaseException] = []
        self.pool, self.stop = Pool(), threading.Event()
        self.hasher = Hasher(self.partial, self.stop, self.pool.return_block)
        self.writer = Writer(self.partial, self.hasher, self.pool, self.errors.append)
        self.writer.start()

    def put(self, at: int, data: bytes) -> threading.Lock:
        block = self.pool.take_block(self.stop)
        assert block is not None
        block[: len(data)] = data
        written = threading.Lock()
        written.acquire()
        self.writer.queue_block(at, block, len(data), written)
        return written

    def free(self) -> int:
        taken = 0
        while not self.pool._free.empty():
            self.pool._free.get()
            taken += 1
        return taken


def test_a_pool_has_aligned_blocks_and_an_end() -> None:
    pool, stop = Pool(), threading.Event()
    first, second = pool.take_block(stop), pool.take_block(stop)
    assert first is not None
    assert second is not None
    assert len(first) == BLOCK_BYTES
    assert first.obj is not second.obj
    stop.set()
    assert pool.take_block(stop) is None


def test_blocks_are_written_noted_and_hashed_or_given_back(tmp_path: Path) -> None:
    line = Line(tmp_path, 3000)
    line.put(0, b"a" * 1000)  # next for the hash: kept for it
    line.put(2000, b"c" * 1000)
    line.writer.finish()
    assert line.partial.find_missing() == [(1000, 2000)]
    assert line.free() == 11
    assert line.errors == []
    view = memoryview(bytearray(3000))
    line.partial.readinto(view, 0)
    assert bytes(view) == b"a" * 1000 + b"\0" * 1000 + b"c" * 1000


def test_after_a_full_disk_every_block_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = Line(tmp_path, 10_000)
    assert line.put(5000, b"x" * 100).acquire(timeout=60)

    def raise_full_disk(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", raise_full_disk)
    locks = [line.put(at, b"y" * 100) for at in (6000, 7000, 8000)]
    assert all(lock.acquire(timeout=60) for lock in locks)  # nobody waits for ever
    line.writer.finish()
    assert [type(err) for err in line.errors] == [NoSpace]  # told once
    assert line.partial.arrived_bytes == 100
    assert line.free() == 12


def test_it_is_flushed_beside_the_transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushing, go_on = threading.Event(), threading.Event()

    def wait_slowly(_: int) -> None:
        flushing.set()
        assert go_on.wait(60)

    monkeypatch.setattr(os, "fsync", wait_slowly)
    line = Line(tmp_path, 10_000, sync_bytes=1000)
    line.put(0, b"x" * 1000)
    assert flushing.wait(60)
    assert line.put(1000, b"x" * 500).acquire(timeout=60)  # written while the flush goes on
    go_on.set()
    line.writer.finish()
    assert b"sync\n" in line.partial.journal.read_bytes()

    def raise_full_disk(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", raise_full_disk)
    line = Line(tmp_path / "other", 10_000, sync_bytes=1000)
    line.put(0, b"x" * 1000)
    line.writer.finish()
    assert [type(err) for err in line.errors] == [NoSpace]
