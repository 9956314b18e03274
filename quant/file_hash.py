"""The sha256 of files, computed in a thread while the encoder reads the same files.

The two threads share one pass over the disk: the hash may be ahead of the encoder by a bounded
number of bytes only, so that what one of them read is still in the page cache when the other needs
it.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Condition
from typing import Final

PIECE_BYTES: Final = 1 << 20  # stays in the core's cache between reading and hashing
# How far the hash may be ahead of the encoder: little enough to stay in the page cache.
LEAD_BYTES: Final = 1 << 28


class FileHash:
    """The running sha256 of files, read one after another in a thread until it is closed.

    It reads `piece_bytes` at a time, and at most `lead_bytes` more than `allow_share` permits.
    """

    def __init__(
        self, paths: Sequence[Path], *, piece_bytes: int = PIECE_BYTES, lead_bytes: int = LEAD_BYTES
    ) -> None:
        self._paths, self._piece_bytes, self._lead_bytes = paths, piece_bytes, lead_bytes
        self._total = sum(path.stat().st_size for path in paths)
        self._limit = lead_bytes
        self._stopped = False
        self._turn = Condition()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="file-hash")
        self._digest = self._pool.submit(self._hash_all)

    def allow_share(self, share: float) -> None:
        """Let the hash advance to this share (0 to 1) of all bytes, and `lead_bytes` further."""
        self._raise_limit(int(share * self._total) + self._lead_bytes)

    def wait_for_digest(self) -> str:
        """Return the hexadecimal digest when all files are read.

        Raises OSError if reading fails.
        """
        self._raise_limit(sys.maxsize)
        return self._digest.result()

    def close(self) -> None:
        """Stop the thread."""
        self._stopped = True
        self._raise_limit(sys.maxsize)
        self._pool.shutdown()

    def _raise_limit(self, n_bytes: int) -> None:
        with self._turn:
            self._limit = n_bytes
            self._turn.notify()

    def _hash_all(self) -> str:
        digest, buffer, done = hashlib.sha256(), memoryview(bytearray(self._piece_bytes)), 0
        for path in self._paths:
            with path.open("rb", buffering=0) as file:
                while (n := file.readinto(buffer)) and not self._stopped:
                    digest.update(buffer[:n])
                    done += n
                    with self._turn:
                        while done >= self._limit:
                            self._turn.wait()
        return digest.hexdigest()
