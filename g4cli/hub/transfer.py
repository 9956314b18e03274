"""Fetches what is missing of a partial file over several connections, and hashes it meanwhile.

    gaps (in order) -> workers: GET range -> block -> writer thread -> partial file, journal
        -> hash thread

Theory. The hash runs from the first byte to the last on one core, at about 1.5 GiB/s, so it must
run during the transfer and never far behind it. Hence the pieces are handed out in order: the
workers fetch neighboring pieces at the same time, and the contiguous front of the file moves on
steadily. A block that is next for the hash goes there from memory; one that arrived early is read
back from the file when its turn comes.

*How many connections.* Distant servers limit each connection, so that several are faster; for a
near server the limit is this machine, and one connection in order is best. A transfer begins with
one. While it gets less than 256 MiB/s, another is opened every quarter of a second, up to
`Limits.connections`. Above 256 MiB/s the pieces become larger and writes bypass the page cache.

*What a failure costs.* A worker that fails puts the rest of its piece back at the front of the
queue, then waits: 0.5 s, doubled up to 30 s with each failure in a row, or what the server asks
for. A URL that expired is requested again, once for all workers. After `Limits.failures`
failures in a row and `Limits.patience_s` without progress the transfer ends with NetworkError.
Failures that waiting cannot change (a server without byte ranges, a certificate that is not
trusted) end it at once. Whatever ends it, what has arrived stays in the partial file.

*Threads.* Each worker, the writer and the hasher are threads; the first exception of any of them is
stored, stops the others, and is raised in the thread that called `run`. Ctrl-C reaches that thread,
which wakes the workers by shutting down their sockets.
"""

from __future__ import annotations

import http.client
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from g4cli.core.errors import BadFile, G4Error, NetworkError
from g4cli.core.progress import Progress
from g4cli.core.spans import Span
from g4cli.core.units import size_text
from g4cli.hub.blocks import BLOCK_BYTES, Pool, Writer
from g4cli.hub.body import STALL_S, Body, Patience
from g4cli.hub.client import Location
from g4cli.hub.connection import BadAnswer, Connection, untrusted_error
from g4cli.hub.hashing import Hasher
from g4cli.hub.journal import Partial

# Bytes between two failures that count as progress, a choice: more than an error page.
_PROGRESS_BYTES: Final = 8192
# The longest pause that a server may ask for: a choice.
_LONGEST_RETRY_AFTER_S: Final = 300.0
# Statuses after which the same request is sent again; 0 is a broken connection, 206 one with a
# wrong range. 421 and 425 ask for it; 520 to 524 are Cloudflare's.
_RETRIED: Final = (0, 206, 408, 409, 421, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524)
# Statuses of a signed URL that has expired, or of a cached redirect.
_EXPIRED: Final = (400, 401, 403, 404, 410)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a transfer. All numbers are choices; docs/benchmarks.md has the speeds they give.

    A transfer has at most `connections` and requests `piece_bytes` at a time, a fast one
    `fast_piece_bytes`.

    Each worker has at most two blocks that are not recorded yet: of 512 KiB if it is fast and
    alone, else of 128 KiB. With 4 connections that is the 1 MiB that a kill -9 may cost.

    Every `tick_s` seconds the progress is shown, and a transfer with `fast_bytes_per_s` becomes a
    fast one. Every `grow_s` seconds a slower one opens another connection. If more than
    `shown_hash_bytes` are left to hash when all have arrived, hashing gets a progress bar of its
    own.
    """

    connections: int = 4
    piece_bytes: int = 32 * 1024**2
    fast_piece_bytes: int = 128 * 1024**2
    failures: int = 8
    patience_s: float = 120.0
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    stall_s: float = STALL_S
    tick_s: float = 0.05
    grow_s: float = 0.25
    fast_bytes_per_s: int = 256 * 1024**2
    shown_hash_bytes: int = 256 * 1024**2


class Transfer:
    """One attempt to complete one partial file.

    `locate` returns the current URL of the file; it is called again when that has expired.
    """

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
        self._queue: deque[Span] = deque(partial.find_missing())
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._failed_in_a_row = 0  # failures of all workers since the last progress
        self._since_failure = 0  # bytes that have arrived since the last failure
        self._last_byte = time.monotonic()  # when there was progress last
        self._location: Location | None = None  # None: the next worker asks for it
        self._connections: list[Connection] = []
        self._workers: list[threading.Thread] = []
        self._pool = Pool()
        self._hasher = Hasher(partial, self._stop, self._pool.return_block)
        self._writer = Writer(partial, self._hasher, self._pool, self._record_failure)
        self._is_fast = False
        self.fetched_bytes = 0

    def run(self) -> None:
        """Fetch everything and check it. Raises NetworkError, BadFile, NoSpace, HashMismatch.

        Raises KeyboardInterrupt when `cancelled` becomes true, for a Ctrl-C that another thread
        received. In any case, what has arrived stays in the partial file.
        """
        self._writer.start()
        self._hasher.start()
        try:
            self._watch_workers()
            self._writer.finish()
            if self._failure is None:
                self._watch_hasher()
        finally:
            # A worker may wait for bytes, for a block or for its turn: all three end here.
            self._stop.set()
            for connection in self._connections:
                connection.abort()
            for worker in self._workers:
                worker.join()
            self._writer.finish()
            self._hasher.join()
        if self._failure is not None:
            raise self._failure
        self._hasher.check_hash(self._label)
        self._progress(self._partial.arrived_bytes, self._partial.goal.nbytes, self._label)

    def _watch_workers(self) -> None:
        """Report progress, and open connections while that may help, until all workers end."""
        limits = self._limits
        ticked = grown = time.monotonic()
        at_tick = at_grown = 0
        while not self._failure:
            running = [worker for worker in self._workers if worker.is_alive()]
            if not self._workers and self._queue:
                self._add_worker()
                continue
            if not running:
                return
            running[0].join(limits.tick_s)
            now, got = time.monotonic(), self.fetched_bytes
            fast = limits.fast_bytes_per_s
            # A tick may be shorter, where a worker ends: too short to measure a speed.
            if got - at_tick >= fast * max(now - ticked, limits.tick_s) and not self._is_fast:
                self._is_fast = True
                self._partial.prefer_direct()
            if now - grown >= limits.grow_s:
                # After a fast phase, a drop is more likely due to this machine than to the network.
                # A quarter is a choice.
                enough = (fast / 4 if self._is_fast else fast) * (now - grown)
                if got - at_grown < enough and len(running) < limits.connections:
                    self._add_worker()
                grown, at_grown = now, got
            ticked, at_tick = now, got
            self._show_progress(self._partial.arrived_bytes)

    def _add_worker(self) -> None:
        if self._queue:
            connection = Connection(Patience(stall_s=self._limits.stall_s))
            worker = threading.Thread(
                target=self._run_worker, args=[connection], name="fetch", daemon=True
            )
            self._connections.append(connection)
            self._workers.append(worker)
            worker.start()

    def _watch_hasher(self) -> None:
        label, total = self._label, self._partial.goal.nbytes
        is_shown = total - self._hasher.hashed_bytes > self._limits.shown_hash_bytes
        while self._hasher.is_alive():
            self._hasher.join(self._limits.tick_s)
            if is_shown:
                self._show_progress(self._hasher.hashed_bytes, f"check {label}")
            else:
                self._show_progress(self._partial.arrived_bytes)

    def _show_progress(self, done: int, label: str = "") -> None:
        if self._cancelled():
            raise KeyboardInterrupt
        self._progress(done, self._partial.goal.nbytes, label or self._label)

    def _run_worker(self, connection: Connection) -> None:
        written = threading.Lock()  # held while a block of this worker waits to be written
        try:
            while not self._stop.is_set() and (span := self._take_piece()):
                self._try_piece(connection, span, written)
        except BaseException as err:  # handed to the main thread, which raises it
            self._record_failure(err)
        finally:
            connection.close()

    def _take_piece(self) -> Span | None:
        """Return the next piece to fetch, taken from the first gap; None if nothing is missing."""
        with self._lock:
            if not self._queue:
                return None
            start, end = self._queue.popleft()
            limits = self._limits
            cut = min(
                end, start + (limits.fast_piece_bytes if self._is_fast else limits.piece_bytes)
            )
            if cut < end:
                self._queue.appendleft((cut, end))
            return start, cut

    def _try_piece(self, connection: Connection, span: Span, written: threading.Lock) -> None:
        """Fetch `span`; after a failure put the rest of it back into the queue, and wait."""
        at, end = span
        location = None
        try:
            location = self._current_location()
            body = connection.get_range(location.url, location.headers, at, end)
            if body.total not in (-1, self._partial.goal.nbytes):
                raise BadFile(
                    f"{self._label} changed during the download: it has {body.total:,} bytes "
                    f"on the server, not {self._partial.goal.nbytes:,}",
                    hint="run the same command again",
                )
            while at < end and not self._stop.is_set():
                n = self._next_block(body, at, end, written)
                at += n
                self._count_arrived(n)
        except (OSError, http.client.HTTPException, BadAnswer) as err:
            connection.close()
            # What is missing of the piece goes first, so that the hash does not wait for it.
            with self._lock:
                self._queue.appendleft((at, end))
            self._wait_after(err, location)

    def _next_block(self, body: Body, at: int, end: int, written: threading.Lock) -> int:
        """Read one block and queue it for offset `at`; return its size, 0 to stop."""
        block = self._pool.take_block(self._stop)
        if block is None:
            return 0
        # Blocks end at multiples of their size: aligned for O_DIRECT.
        size = BLOCK_BYTES if self._is_fast and len(self._workers) == 1 else BLOCK_BYTES // 4
        try:
            n = body.readinto(block[: min(size - at % size, end - at)])
        except BaseException:
            self._pool.return_block(block)
            raise
        if n == 0:
            self._pool.return_block(block)
            raise http.client.IncompleteRead(b"", end - at)
        # Wait until this worker's previous block is recorded: a kill loses at most two blocks each.
        written.acquire()
        self._writer.queue_block(at, block, n, written)
        return n

    def _current_location(self) -> Location:
        with self._lock:
            if self._location is None:
                self._location = self._locate()
            return self._location

    def _count_arrived(self, n: int) -> None:
        """Count `n` bytes; enough of them end a row of failures."""
        with self._lock:
            self.fetched_bytes += n
            self._since_failure += n
            # Otherwise a server that sends a few bytes before each failure would never be given up.
            if self._since_failure >= _PROGRESS_BYTES:
                self._failed_in_a_row = 0
                self._last_byte = time.monotonic()

    def _wait_after(self, err: Exception, location: Location | None) -> None:
        """Wait until a worker may try again after `err`, which a request for `location` met.

        Raises the error that ends the transfer if trying again is of no use.
        """
        status = err.status if isinstance(err, BadAnswer) else 0
        with self._lock:
            if status in _EXPIRED:
                if self._location is not location:
                    return  # another worker has already requested a new URL
                self._location = None
            self._failed_in_a_row += 1
            self._since_failure = 0
            n = self._failed_in_a_row
        hopeless = isinstance(err, BadAnswer) and status not in (*_RETRIED, *_EXPIRED)
        waited = time.monotonic() - self._last_byte
        if isinstance(err, ssl.SSLCertVerificationError) and location:
            raise untrusted_error(urlsplit(location.url).hostname or "", err) from err
        if hopeless or (n > self._limits.failures and waited > self._limits.patience_s):
            raise self._network_error(err)
        wait = min(self._limits.first_wait_s * 2 ** (n - 1), self._limits.longest_wait_s)
        if isinstance(err, BadAnswer):
            wait = max(wait, min(err.retry_after, _LONGEST_RETRY_AFTER_S))
        # Jitter, so that processes that failed together do not retry together.
        self._stop.wait(wait * random.uniform(0.75, 1.25))

    def _network_error(self, err: Exception) -> NetworkError:
        have, total = self._partial.arrived_bytes, self._partial.goal.nbytes
        why = (
            "no data for too long"
            if isinstance(err, TimeoutError)
            else str(err) or type(err).__name__
        )
        return NetworkError(
            f"{self._label}: {why}; {size_text(have)} of {size_text(total)} are kept",
            hint="run the same command again to resume",
        )

    def _record_failure(self, err: BaseException) -> None:
        """Store `err` for the thread that called `run`, and stop all others."""
        with self._lock:
            # The first error is the cause; later ones are its consequences.
            if self._failure is None or (
                isinstance(err, G4Error) and not isinstance(self._failure, G4Error)
            ):
                self._failure = err
        self._stop.set()
