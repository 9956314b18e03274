"""Listen, load the first model, serve until told to stop.

The first Ctrl-C (or SIGTERM) closes the port and gives running answers `GRACE_S` seconds; a second
one ends them at once. The models' processes end in either case.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from g4cli.core.errors import UsageError
from g4cli.operations.serving.loaded import LoadedModel
from g4cli.operations.serving.service import Service
from g4cli.server.app import make_app
from g4cli.server.guard import GuardOptions
from g4cli.server.limits import MAX_HEADER_BYTES
from g4cli.server.logs import log_request
from g4cli.server.protocol import TimedProtocol

# Choices.
GRACE_S: Final = 2
_BACKLOG: Final = 512  # connections that wait to be accepted
_IDLE_S: Final = 60  # after an answer, until a connection without a new request is closed
_TICK_S: Final = 1  # between two looks at the clock: see StoppableServer


def open_port(host: str, port: int) -> socket.socket:
    """Return a socket that listens at `host`; `port` 0 takes a free one. Raises UsageError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    # UnicodeError: a host with an empty or too long label.
    except (OSError, OverflowError, UnicodeError) as err:
        raise UsageError(
            # The last argument of all three is the reason in words.
            f"the server cannot listen at {host}, port {port}: {err.args[-1]}",
            hint="g4 serve --port 0",
        ) from err


def make_url(listener: socket.socket) -> str:
    """Return the URL of the server that listens at `listener`, for its clients on this machine."""
    host, port = listener.getsockname()[:2]
    # A socket at :: takes no IPv4 (socket.create_server).
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve_until_stopped(
    service: Service,
    listener: socket.socket,
    guard: GuardOptions,
    *,
    preload: str | None = None,
    show_loaded: Callable[[LoadedModel], None] = lambda _: None,
    private: bool = False,
) -> None:
    """Serve until Ctrl-C or SIGTERM; then the service is closed.

    `preload` is the model to load at once ("": the default; None: models are loaded by the requests
    that name them). GET /health answers with 503 until `show_loaded` was called with it; requests
    for it wait. `private`: the page forgets its conversations at the end. Raises what loading that
    model raises, after the server has ended.
    """
    app = make_app(service, guard, log_request, private=private)
    asyncio.run(_serve(app, service, listener, preload, show_loaded))


async def _serve(
    app: ASGIApp,
    service: Service,
    listener: socket.socket,
    preload: str | None,
    show_loaded: Callable[[LoadedModel], None],
) -> None:
    config = uvicorn.Config(
        app,
        http=TimedProtocol,
        ws="none",  # no WebSockets
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=_IDLE_S,
    )
    server = StoppableServer(config)
    loading: asyncio.Task[None] | None = None
    if preload is not None:

        async def load() -> None:
            service.is_loading = True
            try:
                show_loaded(await service.preload(preload))
            except BaseException:  # without its model the server is of no use
                server.stop()
                raise
            finally:
                service.is_loading = False

        loading = asyncio.create_task(load())
    await server.serve([listener])
    if loading is not None:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        if not loading.cancelled() and (err := loading.exception()) is not None:
            raise err


class StoppableServer(uvicorn.Server):
    """uvicorn's server: to be told to stop is no failure, and twice means at once.

    While nothing happens it wakes up once a second, for the Date header of its answers. uvicorn's
    own loop wakes up ten times a second to see whether it is told to stop, which takes 0.3 ms of
    processor time each.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._wake_up: Callable[[], object] = lambda: None

    async def main_loop(self) -> None:
        """Return when told to stop."""
        told = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._wake_up = lambda: loop.call_soon_threadsafe(told.set)
        waiting = asyncio.ensure_future(told.wait())
        while not await self.on_tick(0):  # True: to stop; at multiples of 10 it sets the date
            await asyncio.wait((waiting,), timeout=_TICK_S)
        waiting.cancel()

    def stop(self) -> None:
        """Let the server end, from a signal handler too."""
        self.should_exit = True
        self._wake_up()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop; at the second signal cut all connections."""
        del sig, frame
        if self.should_exit:
            self.force_exit = True
            for connection in list(self.server_state.connections):
                connection.transport.abort()
        self.stop()
