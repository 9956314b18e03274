"""Read the body of an HTTP response into large buffers with few calls.

A plain connection bypasses http.client: one recv with MSG_WAITALL fills a whole buffer in the
kernel, and SO_RCVTIMEO ends it early on a slow connection, so that what has arrived is recorded
soon. TLS delivers records of 16 KiB, which are collected for the same time. Chunked responses are
left to http.client.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from g4cli.hub.response import TimedResponse

STALL_S: Final = 30.0
_SLOW_BYTES: Final = 60 * 1024  # in `Patience.slow_s`: 1 KiB/s


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a body may take, in seconds: choices for a bad line that still gets somewhere."""

    stall_s: float = STALL_S  # without a byte: the connection is given up
    gather_s: float = 0.25  # then a read returns what has arrived, full buffer or not
    slow_s: float = 60.0  # so long with less than _SLOW_BYTES is given up as well


def pack_timeval(seconds: float) -> bytes:
    """Return `seconds` as the C structure that SO_RCVTIMEO takes."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))


class Body:
    """A response being read from `sock`: at most the `nbytes` of the requested range.

    `total` is the file's size, or -1 if the server does not say.
    """

    def __init__(
        self,
        response: TimedResponse,
        sock: socket.socket,
        nbytes: int,
        total: int,
        patience: Patience,
    ) -> None:
        self._response, self._sock, self._patience = response, sock, patience
        self._left = nbytes if response.length is None else min(nbytes, response.length)
        # The connection stays open after exactly the bytes that were asked for.
        self._is_kept = (
            response.length == nbytes and not response.chunked and not response.will_close
        )
        self.total = total
        self._read: Callable[[memoryview], int] = self._read_chunk
        self._n_buffered = 0  # bytes of the body that http.client has read already
        # What `_require_rate` counts, since it last found the rate sufficient.
        self._waited_s, self._n_received = 0.0, 0
        if response.chunked:
            return
        # The buffer that the header was read from may hold the first bytes of the body.
        self._n_buffered = len(response.fp.peek()) if self._left else 0
        if isinstance(sock, ssl.SSLSocket):
            sock.settimeout(patience.gather_s)
            self._read = self._read_records
        else:
            sock.settimeout(None)
            timeval = pack_timeval(patience.gather_s)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
            self._read = self._read_plain

    def readinto(self, view: memoryview) -> int:
        """Return how many bytes were read into `view`, 0 at the end.

        Raises OSError on a stall or a reset.
        """
        view = view[: min(len(view), self._left)]
        if not view:
            return 0
        since = time.monotonic()
        if self._n_buffered:
            n = self._response.fp.readinto1(view[: self._n_buffered])
            self._n_buffered -= n
        else:
            n = self._read(view)
        self._left -= n
        self._require_rate(time.monotonic() - since, n)
        return n

    def _require_rate(self, waited_s: float, nbytes: int) -> None:
        """Raise TimeoutError for less than 1 KiB/s, which is no stall but would never end.

        Only the time spent in reads counts: a slow disk is not the server's fault.
        """
        self._waited_s += waited_s
        self._n_received += nbytes
        if self._waited_s >= self._patience.slow_s:
            if self._n_received < _SLOW_BYTES:
                raise TimeoutError("less than 1 KiB/s")
            self._waited_s, self._n_received = 0.0, 0

    def finish(self) -> bool:
        """Return whether the connection can carry another request.

        It can if nothing of this response is left in it.
        """
        if self._left or not self._is_kept:
            return False
        self._response.close()
        self._sock.settimeout(self._patience.stall_s)
        return True

    def close(self) -> None:
        """Close the response, which may own the socket if the server closes the connection."""
        self._response.close()

    def _read_chunk(self, view: memoryview) -> int:
        """Read a part of a chunked response."""
        # The lines between chunks can be as long, and come as slowly, as the server likes.
        self._response.limit_time(self._patience.slow_s)
        data = self._response.read1(len(view))
        view[: len(data)] = data
        return len(data)

    def _read_plain(self, view: memoryview) -> int:
        """Read without TLS until `view` is full, or what has come in `gather_s`."""
        since = time.monotonic()
        while True:
            try:
                return self._sock.recv_into(view, 0, socket.MSG_WAITALL)
            except BlockingIOError:  # nothing has come in `gather_s`
                self._check_stall(since)

    def _read_records(self, view: memoryview) -> int:
        """Read with TLS until `view` is full, or what has come in `gather_s`."""
        filled, since = 0, time.monotonic()
        while filled < len(view):
            try:
                n = self._sock.recv_into(view[filled:])
            except TimeoutError:
                if filled:
                    break
                self._check_stall(since)
                continue
            filled += n
            if not n or time.monotonic() - since > self._patience.gather_s:
                break
        return filled

    def _check_stall(self, since: float) -> None:
        if time.monotonic() - since >= self._patience.stall_s:
            raise TimeoutError("no data for too long")
