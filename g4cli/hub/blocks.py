"""Buffers that pass from the network to the disk and to the hash, and are reused.

    Pool.take_block -> a worker fills it -> Writer: partial file, journal
        -> Hasher, if it is the next block for the hash -> Pool.return_block

Each stage is a thread of its own, so that a fast network, the disk and one core that hashes work at
the same time. A block that is next for the hash goes there from memory; any other is read back from
the file later.
"""

from __future__ import annotations

import mmap
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from g4cli.core.errors import G4Error
from g4cli.hub.hashing import Hasher
from g4cli.hub.journal import Partial

BLOCK_BYTES: Final = 512 * 1024
# 6 MiB, a choice: two blocks for each of four workers, and some that wait for the hash.
_N_BLOCKS: Final = 12
_POLL_S: Final = 0.1  # a choice: how long a thread that is to stop may still wait


class Pool:
    """A fixed number of blocks, each aligned to a page as O_DIRECT requires."""

    def __init__(self) -> None:
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        for _ in range(_N_BLOCKS):
            self._free.put(memoryview(mmap.mmap(-1, BLOCK_BYTES)))

    def take_block(self, stop: threading.Event) -> memoryview | None:
        """Return a free block, waiting for one; None once `stop` is set."""
        while not stop.is_set():
            try:
                return self._free.get(timeout=_POLL_S)
            except queue.Empty:
                continue
        return None

    def return_block(self, block: memoryview) -> None:
        """Make `block` available again."""
        self._free.put(block)


@dataclass(frozen=True, slots=True)
class _Filled:
    """The arguments of `Writer.queue_block`."""

    at: int
    block: memoryview
    nbytes: int
    written: threading.Lock


class Writer(threading.Thread):
    """Writes filled blocks to the partial file in the order of arrival, and flushes it.

    `report_failure` is called with an exception of this thread; later blocks are not written then.
    """

    def __init__(
        self,
        partial: Partial,
        hasher: Hasher,
        pool: Pool,
        report_failure: Callable[[BaseException], None],
    ) -> None:
        super().__init__(name="write", daemon=True)
        self._partial, self._hasher, self._pool = partial, hasher, pool
        self._report_failure = report_failure
        self._queue: queue.SimpleQueue[_Filled | None] = queue.SimpleQueue()
        self._failed = False
        self._flush: threading.Thread | None = None

    def queue_block(self, at: int, block: memoryview, nbytes: int, written: threading.Lock) -> None:
        """Queue the first `nbytes` of `block` for offset `at`.

        `written` is released when they are recorded in the journal.
        """
        self._queue.put(_Filled(at, block, nbytes, written))

    def finish(self) -> None:
        """Write what is queued and end the thread. May be called again."""
        self._queue.put(None)
        self.join()

    def run(self) -> None:
        while (filled := self._queue.get()) is not None:
            goes_to_hash = False
            try:
                if not self._failed:
                    goes_to_hash = self._write_block(filled)
            except BaseException as err:  # handed to the main thread, which raises it
                self._failed = True
                self._report_failure(err)
            if not goes_to_hash:
                self._pool.return_block(filled.block)
            filled.written.release()
        if self._flush:
            self._flush.join()

    def _write_block(self, filled: _Filled) -> bool:
        """Write and record a block; return whether the hasher keeps it."""
        at, end = filled.at, filled.at + filled.nbytes
        self._partial.write_unrecorded(at, filled.block[: filled.nbytes])
        goes_to_hash = self._hasher.offer_block(at, filled.block, filled.nbytes)
        if self._partial.note_span(at, end) and not (self._flush and self._flush.is_alive()):
            # In another thread, because a flush may take seconds.
            self._flush = threading.Thread(target=self._sync_partial, name="flush", daemon=True)
            self._flush.start()
        return goes_to_hash

    def _sync_partial(self) -> None:
        try:
            self._partial.sync()
        except G4Error as err:
            self._report_failure(err)
