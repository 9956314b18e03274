"""uvicorn's HTTP connection with the time limits that it lacks, and fewer system calls.

A client that sends its headers letter by letter, or takes nothing of its answer, costs a connection
each; neither ends by itself. Timers here are set only when one waits: not for each token.

uvicorn writes each part of an answer to the socket at once. Tokens that come together would cost a
system call each, and wake up their client as often: they are gathered for one round of the event
loop.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from uvicorn.protocols.http.h11_impl import H11Protocol

from g4cli.server.limits import HEADER_TIMEOUT_S, MAX_CONNECTIONS, SEND_TIMEOUT_S


class GatheringTransport:
    """A transport that sends what is written within one round of the event loop together."""

    # A choice: beyond it nothing more is gathered. Many tokens, less than a socket's buffer holds.
    most_bytes = 1 << 14

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._pieces: list[bytes] = []
        self._n_bytes = 0

    def __getattr__(self, name: str) -> Any:
        """Return what the transport itself has of that name."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data` at the end of this round, or now, if there is enough of it."""
        if not data:
            return
        if not self._pieces:
            self._loop.call_soon(self.send_gathered)
        self._pieces.append(data)
        self._n_bytes += len(data)
        if self._n_bytes >= self.most_bytes:
            self.send_gathered()

    def send_gathered(self) -> None:
        """Send what was written before."""
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._n_bytes = 0
            self._transport.write(data)

    def close(self) -> None:
        """Close the connection when all is sent."""
        self.send_gathered()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self._pieces.clear()
        self._transport.abort()


class TimedProtocol(H11Protocol):
    """One connection; it is cut off when it waits for its client for too long.

    The methods are those of asyncio.Protocol, which the event loop calls, but for
    `timeout_keep_alive_handler`, which uvicorn calls some time after an answer.
    """

    header_timeout_s = HEADER_TIMEOUT_S
    send_timeout_s = SEND_TIMEOUT_S

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._timers: dict[Literal["headers", "sending"], asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first request."""
        gathering: Any = GatheringTransport(transport, self.loop)
        super().connection_made(gathering)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._start_timer("headers", self.header_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; from the first of a request its headers must come in time."""
        super().data_received(data)
        # `cycle` is uvicorn's request under way: once it exists, all headers have come.
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer("headers")
        elif "headers" not in self._timers and not self.transport.is_closing():
            self._start_timer("headers", self.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer("headers")
        self._stop_timer("sending")
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client's buffers are full: it has to take something in time."""
        super().pause_writing()
        self._start_timer("sending", self.send_timeout_s)

    def resume_writing(self) -> None:
        """The client has taken something."""
        super().resume_writing()
        self._stop_timer("sending")

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; what its client never took is dropped."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _start_timer(self, name: Literal["headers", "sending"], seconds: float) -> None:
        self._timers[name] = self.loop.call_later(seconds, self.transport.abort)

    def _stop_timer(self, name: Literal["headers", "sending"]) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()
