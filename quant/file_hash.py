"""The sha256 of files, computed in a thread of its own: beside the encoder, or after it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Condition
from typing import Final

_PIECE_BYTES: Final = 1 << 20  # stays in the core's cache between reading and hashing
# How far the hash may be ahead of the encoder. It reads for both, even where memory cannot hold the file.
_LEAD_BYTES: Final = 1 << 28


class FileHash:
    """The hash of files one after another. `reach` tells where another reader is, `result` waits."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._total = sum(path.stat().st_size for path in paths)
        self._limit = _LEAD_BYTES
        self._stopped = False
        self._turn = Condition()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="file-hash")
        self._digest = self._pool.submit(self._run)

    def reach(self, share: float) -> None:
        """Let the hash go on to this share of the bytes, and a little further."""
        self._allow(int(share * self._total) + _LEAD_BYTES)

    def result(self) -> str:
        """Return the hash in hexadecimal, once it is there. Raises what reading raises."""
        self._allow(sys.maxsize)
        return self._digest.result()

    def close(self) -> None:
        """Stop the thread."""
        self._stopped = True
        self._allow(sys.maxsize)
        self._pool.shutdown()

    def _allow(self, n_bytes: int) -> None:
        with self._turn:
            self._limit = n_bytes
            self._turn.notify()

    def _run(self) -> str:
        digest, buffer, done = hashlib.sha256(), memoryview(bytearray(_PIECE_BYTES)), 0
        for path in self._paths:
            with path.open("rb", buffering=0) as file:
                while (n := file.readinto(buffer)) and not self._stopped:
                    digest.update(buffer[:n])
                    done += n
                    with self._turn:
                        while done >= self._limit:
                            self._turn.wait()
        return digest.hexdigest()


@contextmanager
def hash_of(paths: Sequence[Path]) -> Iterator[FileHash]:
    """Yield the running hash of the files at `paths`; on leaving its thread is stopped."""
    running = FileHash(paths)
    try:
        yield running
    finally:
        running.close()
