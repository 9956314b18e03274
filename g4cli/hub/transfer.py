"""Fetch what is missing of a partial over several connections, and hash it as it grows.

    queue of pieces (in order) -> N threads: GET range -> Partial.write -> frontier -> hash thread

Pieces are taken in order, so the hash, which must run from the start, is never far behind. A worker that
fails waits (0.5 s, doubled up to 30 s, or what the server asks for) and puts the rest of its piece back.
After `Limits.failures` failures in a row and `Limits.patience_s` without one new byte the transfer ends, and
everything stays.
"""

from __future__ import annotations

import hashlib
import http.client
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from g4cli.core.errors import BadFile, G4Error, HashMismatch, NetworkError
from g4cli.core.progress import Progress
from g4cli.core.units import size_text
from g4cli.hub.client import Location
from g4cli.hub.connection import STALL_S, BadAnswer, Connection
from g4cli.hub.journal import Partial, Span

_READ_BYTES: Final = 128 * 1024
_HASH_BYTES: Final = 1 << 20
_TICK_S: Final = 0.05
_LOOK_S: Final = 0.01
_AGAIN: Final = (0, 206, 408, 409, 421, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524)
_EXPIRED: Final = (400, 401, 403, 404, 410)  # a signed address that has run out, or a cached redirect


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard to try. `connections` at once; a worker loses at most 128 KiB to a kill."""

    connections: int = 4
    piece_bytes: int = 32 * 1024**2
    failures: int = 8
    patience_s: float = 120.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    stall_s: float = STALL_S


class Transfer:
    """One run over one partial. `locate` gives the present address; it is asked again when that expires."""

    def __init__(
        self,
        partial: Partial,
        locate: Callable[[], Location],
        *,
        label: str,
        progress: Progress,
        limits: Limits,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._partial, self._locate, self._limits = partial, locate, limits
        self._cancelled = cancelled
        self._label, self._progress = label, progress
        self._queue: deque[Span] = deque(partial.missing(limits.piece_bytes))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._failed_in_a_row = 0
        self._last_byte = time.monotonic()
        self._location: Location | None = None
        self._connections = [
            Connection(stall_s=limits.stall_s) for _ in range(min(limits.connections, len(self._queue)))
        ]
        self.fetched_bytes = 0

    def run(self) -> None:
        """Fetch everything and check it. Raises NetworkError, BadFile, NoSpace, HashMismatch.

        Raises KeyboardInterrupt when `cancelled` becomes true: the Ctrl-C of the thread that waits for this.

        Whatever happens, Ctrl-C included, what has arrived stays in the partial.
        """
        hasher = _Hasher(self._partial, self._stop)
        workers = [
            threading.Thread(target=self._work, args=[connection], name="fetch", daemon=True)
            for connection in self._connections
        ]
        threads = [*workers, hasher]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in workers) and not self._failure:
                time.sleep(_TICK_S)
                if self._cancelled():
                    raise KeyboardInterrupt
                self._progress(self._partial.have, self._partial.goal.nbytes, self._label)
            for thread in workers:
                thread.join()
            if self._failure is None:
                while hasher.is_alive():
                    hasher.join(_TICK_S)
                    self._progress(self._partial.have, self._partial.goal.nbytes, self._label)
        finally:
            self._stop.set()
            for connection in self._connections:
                connection.abort()
            for thread in threads:
                thread.join()
        if self._failure is not None:
            raise self._failure
        hasher.check(self._label)
        self._progress(self._partial.have, self._partial.goal.nbytes, self._label)

    def _work(self, connection: Connection) -> None:
        view = memoryview(bytearray(_READ_BYTES))
        try:
            while not self._stop.is_set():
                with self._lock:
                    if not self._queue:
                        return
                    span = self._queue.popleft()
                self._try_piece(connection, span, view)
        except BaseException as err:  # handed to the main thread, which raises it
            self._fail(err)
        finally:
            connection.close()

    def _try_piece(self, connection: Connection, span: Span, view: memoryview) -> None:
        at, end = span
        location = None
        try:
            location = self._where()
            body = connection.get_range(location.url, location.headers, at, end)
            if body.total not in (-1, self._partial.goal.nbytes):
                raise BadFile(
                    f"{self._label} changed in mid-transfer: the server's file has {body.total:,} bytes, "
                    f"{self._partial.goal.nbytes:,} were announced",
                    hint="run the same command again",
                )
            while at < end and not self._stop.is_set():
                n = body.readinto(view[: min(len(view), end - at)])
                if n == 0:
                    raise http.client.IncompleteRead(b"", end - at)
                self._partial.write(at, view[:n])
                at += n
                self._arrived(n)
            if at < end:
                connection.close()
        except (OSError, http.client.HTTPException, BadAnswer) as err:
            connection.close()
            with self._lock:
                self._queue.appendleft((at, end))
            self._wait_after(err, location)

    def _where(self) -> Location:
        with self._lock:
            if self._location is None:
                self._location = self._locate()
            return self._location

    def _arrived(self, n: int) -> None:
        with self._lock:
            self.fetched_bytes += n
            self._failed_in_a_row = 0
            self._last_byte = time.monotonic()

    def _wait_after(self, err: Exception, location: Location | None) -> None:
        status = err.status if isinstance(err, BadAnswer) else 0
        with self._lock:
            if status in _EXPIRED:
                if self._location is not location:
                    return  # another worker has asked for a new address already
                self._location = None
            self._failed_in_a_row += 1
            n = self._failed_in_a_row
        hopeless = isinstance(err, BadAnswer) and status not in (*_AGAIN, *_EXPIRED)
        hopeless |= isinstance(err, ssl.SSLCertVerificationError)
        waited = time.monotonic() - self._last_byte
        if hopeless or (n > self._limits.failures and waited > self._limits.patience_s):
            raise self._network_error(err)
        wait = min(self._limits.first_wait_s * 2 ** (n - 1), self._limits.longest_wait_s)
        if isinstance(err, BadAnswer):
            wait = max(wait, min(err.retry_after, 300.0))
        # Jitter: several processes that failed together should not come back together.
        self._stop.wait(wait * random.uniform(0.75, 1.25))

    def _network_error(self, err: Exception) -> NetworkError:
        have, total = self._partial.have, self._partial.goal.nbytes
        why = "no byte for too long" if isinstance(err, TimeoutError) else str(err) or type(err).__name__
        return NetworkError(
            f"{self._label}: {why}; {size_text(have)} of {size_text(total)} are kept",
            hint="run the same command again to go on",
        )

    def _fail(self, err: BaseException) -> None:
        with self._lock:
            # The first cause is the one to tell; what follows are its consequences.
            if self._failure is None or (isinstance(err, G4Error) and not isinstance(self._failure, G4Error)):
                self._failure = err
        self._stop.set()


class _Hasher(threading.Thread):
    """Follows the frontier of a partial; what arrived in earlier runs is read again from the disk."""

    def __init__(self, partial: Partial, stop: threading.Event) -> None:
        super().__init__(name="sha256", daemon=True)
        self._partial, self._stop_asked = partial, stop
        goal = partial.goal
        self._expected = goal.sha256 or goal.git_oid
        self._digest = hashlib.sha256() if goal.sha256 or not goal.git_oid else hashlib.sha1()
        if not goal.sha256 and goal.git_oid:  # git hashes a small header with the content
            self._digest.update(f"blob {goal.nbytes}\0".encode())
        self._error: OSError | None = None

    def run(self) -> None:
        at = 0
        try:
            while at < self._partial.goal.nbytes and not self._stop_asked.is_set():
                frontier = self._partial.frontier
                # Looking now and then costs less than being woken by every read of every worker.
                if frontier - at < _HASH_BYTES and frontier < self._partial.goal.nbytes:
                    self._stop_asked.wait(_LOOK_S)
                    continue
                data = self._partial.read(at, min(_HASH_BYTES, frontier - at))
                if not data:
                    raise OSError("the partial file became shorter")
                self._digest.update(data)
                at += len(data)
        except OSError as err:
            self._error = err

    def check(self, label: str) -> None:
        """Raise HashMismatch unless the whole file has the hash that the hub recorded."""
        if self._error is not None:
            raise BadFile(f"{label}: {self._error}", hint="run the same command again") from self._error
        found = self._digest.hexdigest()
        if self._expected and found != self._expected:
            raise HashMismatch(
                f"{label}: sha256 is {found}, the hub recorded {self._expected}; the partial file is kept",
                hint="the same command with --restart; if that fails too, try another network",
            )
