"""One process at a time: a lock that the kernel frees when its holder dies, kill -9 included."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from g4cli.core.errors import Interrupted, UsageError
from g4cli.core.paths import cache_dir

_POLL_S: Final = 0.2


@contextmanager
def one_process(
    target: Path,
    *,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Hold the lock of `target`, waiting for its holder; `on_wait` is called once if there is one.

    The lock file lies in the cache folder, named by a hash of the path, and is never removed (removing it
    would let a third process lock a file that a second one still holds). Raises UsageError if the cache
    folder cannot be written, Interrupted if `cancelled` becomes true while waiting.
    """
    name = hashlib.sha256(os.fsencode(target.resolve())).hexdigest()[:32]
    place = cache_dir() / "locks" / f"{name}.lock"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as err:
        raise UsageError(
            f"{place} cannot be written: {err.strerror}", hint="set G4_HOME to a folder of yours"
        ) from err
    try:
        _acquire(descriptor, on_wait, cancelled)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, on_wait: Callable[[], None], cancelled: Callable[[], bool]) -> None:
    import fcntl

    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError as err:
            if err.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                return  # a file system without locks: better no lock than no download
        if not told:
            on_wait()
            told = True
        if cancelled():
            raise Interrupted("interrupted while waiting for another g4")
        time.sleep(_POLL_S)
