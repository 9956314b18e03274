"""Limit what the hub may answer through huggingface_hub: requests, bytes and time.

The library follows every `rel="next"`, decompresses whatever arrives and keeps all of it: 0.5 MB of
gzip become 1 GB. Here each of its HTTP clients asks for uncompressed bytes, and counts them as they
arrive.

A token is sent to the hub's own origin only: not to the host that a listing names for its next
page, nor to the same host without TLS.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from g4cli.core.errors import NetworkError
from g4cli.core.units import duration_text, size_text
from g4cli.hub.proxies import make_transport, without_login
from g4cli.hub.response import is_compressed

if TYPE_CHECKING:
    import httpx2

# Choices for one call of the library: a listing has a page for each 1,000 files, of some 300 KB.
MAX_REQUESTS: Final = 1_000
MAX_BYTES: Final = 64 * 1024**2
MAX_SECONDS: Final = 600.0


@dataclass(slots=True)
class _Usage:
    """What the calls inside one `limit_answers` block have used so far."""

    endpoint: str
    since: float
    requests: int = 0
    nbytes: int = 0

    def check_limits(self) -> None:
        """Raise NetworkError if a limit is exceeded."""
        spent = time.monotonic() - self.since
        for is_over, limit in (
            (self.requests > MAX_REQUESTS, f"{MAX_REQUESTS:,} answers"),
            (self.nbytes > MAX_BYTES, size_text(MAX_BYTES)),
            (spent > MAX_SECONDS, duration_text(MAX_SECONDS)),
        ):
            if is_over:
                raise NetworkError(
                    f"{without_login(self.endpoint)} sent too much: more than {limit} for one "
                    "request",
                    hint="check HF_ENDPOINT",
                )


# Of the `limit_answers` block that this thread is in: httpx2 calls its hooks in the same thread.
_usage: ContextVar[_Usage | None] = ContextVar("usage", default=None)
# The connections to the hub, which later calls use again.
_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()
_sockets_lock = threading.Lock()


@contextmanager
def limit_answers(endpoint: str) -> Iterator[None]:
    """Limit all that huggingface_hub receives inside the block.

    A token is sent to `endpoint` only. Raises NetworkError above a limit.
    """
    usage = _Usage(endpoint, time.monotonic())
    previous = _usage.set(usage)
    # A server that sends a header byte by byte is noticed by nobody else: httpx limits each wait.
    timer = threading.Timer(MAX_SECONDS, _shut_down_sockets)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        usage.check_limits()  # a connection that was shut down is not the cause
        raise
    finally:
        timer.cancel()
        _usage.reset(previous)


def origin_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of `url`. Raises ValueError for an invalid port."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    return parts.scheme, (parts.hostname or "").lower(), port


def new_client(context: ssl.SSLContext | None) -> httpx2.Client:
    """Return an HTTP client for huggingface_hub with these limits.

    `context` holds the trusted certificates; None: the default ones.
    """
    import httpx2

    return httpx2.Client(
        transport=make_transport(context),
        follow_redirects=True,
        timeout=None,  # as the library's own client has it: each of its calls sets one
        event_hooks={"request": [_check_request], "response": [_check_response]},
    )


def _check_request(request: httpx2.Request) -> None:
    """Change a request before it is sent, redirected ones too; raise NetworkError at a limit."""
    request.headers["Accept-Encoding"] = "identity"
    request.extensions["trace"] = _note_socket
    usage = _usage.get()
    if usage is None:
        return
    usage.requests += 1
    usage.check_limits()
    if origin_of(str(request.url)) != origin_of(usage.endpoint):
        request.headers.pop("Authorization", None)


def _note_socket(event: str, info: Mapping[str, Any]) -> None:
    """Remember a new connection: httpx calls this with each step of a request."""
    if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
        with _sockets_lock:
            _sockets.add(info["return_value"].get_extra_info("socket"))


def _shut_down_sockets() -> None:
    """Let all threads that wait for the hub go on, with an error, also those of other calls."""
    with _sockets_lock:
        sockets = list(_sockets)
    for sock in sockets:
        with suppress(OSError):  # it is closed already
            sock.shutdown(socket.SHUT_RDWR)


def _check_response(response: httpx2.Response) -> None:
    """Let the bytes of a response be counted, of which only the header has been read."""
    import httpx2

    usage = _usage.get()
    if is_compressed(response.headers):
        host = without_login(str(response.request.url.copy_with(query=None)))
        raise NetworkError(f"{host} sent a compressed response that was not requested")
    if usage is None or not isinstance(response.stream, httpx2.SyncByteStream):
        return
    response.stream = _count_bytes(response.stream, usage)


def _count_bytes(stream: Any, usage: _Usage) -> httpx2.SyncByteStream:
    """Return `stream` with its bytes counted in `usage`."""
    import httpx2

    class Counted(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            for piece in stream:
                usage.nbytes += len(piece)
                usage.check_limits()
                yield piece

        def close(self) -> None:
            stream.close()

    return Counted()
