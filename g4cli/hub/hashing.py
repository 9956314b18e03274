"""Hash a partial file in a thread of its own while it grows."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable
from typing import Final

from g4cli.core.errors import BadFile, HashMismatch
from g4cli.hub.journal import Partial

_READ_BYTES: Final = 1 << 20  # read back at once: stays in the core's cache for the hash
_POLL_S: Final = 0.01  # a choice: short against a block's way over the network


class Hasher(threading.Thread):
    """Hashes a partial file from its start to the first gap, which moves as bytes arrive.

    Blocks that come in order are hashed from memory; what arrived out of order, or in earlier runs,
    is read back from the file. `return_block` is called with each block that was hashed. It stops
    early when `stop` is set.
    """

    def __init__(
        self, partial: Partial, stop: threading.Event, return_block: Callable[[memoryview], None]
    ) -> None:
        super().__init__(name="sha256", daemon=True)
        self._partial, self._stop_asked, self._return_block = partial, stop, return_block
        goal = partial.goal
        self._expected = goal.sha256 or goal.git_oid
        self._digest = hashlib.sha256()
        if not goal.sha256 and goal.git_oid:  # git hashes a small header with the content
            header = f"blob {goal.nbytes}\0".encode()
            self._digest = hashlib.sha1(header, usedforsecurity=False)
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[memoryview, int]] = queue.SimpleQueue()
        self._promised = 0  # up to this offset bytes are hashed, queued or being read
        self._error: OSError | None = None
        self.hashed_bytes = 0

    def offer_block(self, at: int, block: memoryview, nbytes: int) -> bool:
        """Return whether the block is the next one to be hashed.

        If so, the hasher keeps it and gives it back when it is hashed.
        """
        with self._lock:
            if at != self._promised or self._error is not None:
                return False
            self._promised += nbytes
            self._queue.put((block, nbytes))
            return True

    def run(self) -> None:
        view = memoryview(bytearray(_READ_BYTES))
        wait = 0.0
        try:
            while self.hashed_bytes < self._partial.goal.nbytes and not self._stop_asked.is_set():
                try:
                    block, nbytes = self._queue.get(timeout=wait)
                except queue.Empty:
                    # Polling costs less than being woken by every block of every worker.
                    wait = 0.0 if self._catch_up(view) else _POLL_S
                    continue
                self._digest.update(block[:nbytes])
                self._return_block(block)
                self.hashed_bytes += nbytes
                wait = _POLL_S
        except OSError as err:
            with self._lock:
                self._error = err
                while not self._queue.empty():  # the transfer continues and needs its blocks
                    block, _ = self._queue.get()
                    self._return_block(block)

    def _catch_up(self, view: memoryview) -> bool:
        """Return whether there was something to read back from the file, and hash it."""
        total = self._partial.goal.nbytes
        with self._lock:
            at, frontier = self._promised, self._partial.frontier
            n = min(len(view), frontier - at)
            # Less than a whole read may be a block that comes from memory in a moment.
            if n <= 0 or (n < len(view) and frontier < total) or not self._queue.empty():
                return False
            self._promised += n
        end = at + n
        while at < end:
            got = self._partial.readinto(view[: end - at], at)
            if not got:
                raise OSError("the partial file became shorter")
            self._digest.update(view[:got])
            at += got
        self.hashed_bytes = end
        return True

    def check_hash(self, label: str) -> None:
        """Raise HashMismatch unless the whole file has the hash that the hub recorded."""
        if self._error is not None:
            raise BadFile(
                f"{label}: {self._error}", hint="run the same command again"
            ) from self._error
        digest = self._digest.hexdigest()
        if self._expected and digest != self._expected:
            raise HashMismatch(
                f"{label}: its hash is {digest}, the hub recorded {self._expected}; "
                "the partial file is kept",
                hint="run the command again with --restart; if that fails too, use another network",
            )
