"""A lock between processes that the kernel frees when its holder dies, even by kill -9."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from g4cli.core.errors import Interrupted, UsageError
from g4cli.core.paths import cache_dir

_POLL_S: Final = 0.2  # a choice
# Errors of file systems without locks.
_NO_LOCKS: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def hold_lock(
    target: Path,
    *,
    on_wait: Callable[[], None] = lambda: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Hold the lock of `target`; `on_wait` is called once if another process holds it.

    The lock file is in the cache folder, named by a hash of the path of `target`, and stays there.
    Raises UsageError if the cache folder cannot be written, Interrupted if `cancelled` becomes true
    while waiting.
    """
    name = hashlib.sha256(os.fsencode(target.resolve())).hexdigest()[:32]
    path = cache_dir() / "locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        _wait_for_lock(lock, on_wait, cancelled)
    except OSError as err:
        # Where the file system has no locks, download without one.
        if err.errno not in _NO_LOCKS:
            raise UsageError(
                f"{path} cannot be written: {err.strerror}",
                hint="set G4_HOME to a folder of your own",
            ) from err
    try:
        yield
    finally:
        lock.release()


def _wait_for_lock(
    lock: FileLock, on_wait: Callable[[], None], cancelled: Callable[[], bool]
) -> None:
    """Acquire `lock`; the arguments are those of `hold_lock`."""
    is_told = False
    while True:
        with suppress(Timeout):
            lock.acquire(timeout=0)
            return
        if not is_told:
            on_wait()
            is_told = True
        if cancelled():
            raise Interrupted("interrupted while waiting for another g4 process")
        time.sleep(_POLL_S)
