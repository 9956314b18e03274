"""HTTP responses whose lines come in bounded time, and two of their headers.

http.client limits the wait for each piece of a response, not the sum: a server that sends one byte
of a header now and then, or interim responses (100 Continue) without end, would be read for ever.
"""

from __future__ import annotations

import http.client
import io
import math
import re
import socket
import time
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import httpx2

HEADER_S: Final = 60.0  # a choice: a busy server may take half a minute


def retry_seconds(headers: http.client.HTTPMessage | httpx2.Headers) -> float:
    """Return the seconds of the Retry-After header, 0 if it is missing or a date."""
    asked = headers.get("Retry-After", "").strip()
    return float(asked) if re.fullmatch(r"[0-9]{1,9}", asked) else 0.0


def is_compressed(headers: http.client.HTTPMessage | httpx2.Headers) -> bool:
    """Return whether a body is compressed, which no request of g4 allows."""
    return headers.get("Content-Encoding", "").strip().lower() not in ("", "identity")


class TimedResponse(http.client.HTTPResponse):
    """A response whose status line and header must be complete HEADER_S after it was begun.

    This holds for the answer of a proxy that is asked for a tunnel, too. `limit_time` bounds what
    follows.
    """

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        raw = cast("socket.SocketIO", self.fp.detach())
        self._timed = _TimedReader(raw, sock)
        self.fp = io.BufferedReader(self._timed)
        self.limit_time(HEADER_S)

    def begin(self) -> None:
        """Read the status line and the header. Raises TimeoutError if they take too long."""
        super().begin()
        self.limit_time(None)

    def limit_time(self, seconds: float | None) -> None:
        """Let reads from now on end within `seconds` in all; None: no limit of their sum."""
        self._timed.deadline = None if seconds is None else time.monotonic() + seconds


class _TimedReader(io.RawIOBase):
    """Reads from `sock` by `raw`, until `deadline`, in seconds of the monotonic clock."""

    def __init__(self, raw: socket.SocketIO, sock: socket.socket) -> None:
        self._raw, self._sock = raw, sock
        self._stall_s = sock.gettimeout() or HEADER_S
        self.deadline: float | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Return the number of bytes read into `buffer`. Raises TimeoutError."""
        left = math.inf if self.deadline is None else self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("a response that takes too long")
        self._sock.settimeout(min(left, self._stall_s))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()
