"""uvicorn's HTTP connection with the time limits that it lacks.

A client that sends its headers letter by letter, or takes nothing of its answer, costs a connection
each; neither ends by itself. Timers here are set only when one waits: not for each token.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from g4cli.server.limits import HEADER_TIMEOUT_S, MAX_CONNECTIONS, SEND_TIMEOUT_S


class TimedProtocol(H11Protocol):
    """One connection; it is cut off when it waits for its client for too long."""

    header_timeout_s = HEADER_TIMEOUT_S
    send_timeout_s = SEND_TIMEOUT_S

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._header_timer: asyncio.TimerHandle | None = None
        self._send_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first request."""
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
            return
        self._header_timer = self._start_timer(self.header_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Take bytes in; from the first of a request its headers must come in time."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_header_timer()
        elif self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self._start_timer(self.header_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_header_timer()
        self._stop_send_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client's buffers are full: it has to take something in time."""
        super().pause_writing()
        self._send_timer = self._start_timer(self.send_timeout_s)

    def resume_writing(self) -> None:
        """The client has taken something."""
        super().resume_writing()
        self._stop_send_timer()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; what its client never took is dropped."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _start_timer(self, seconds: float) -> asyncio.TimerHandle:
        return self.loop.call_later(seconds, self.transport.abort)

    def _stop_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _stop_send_timer(self) -> None:
        if self._send_timer is not None:
            self._send_timer.cancel()
            self._send_timer = None
