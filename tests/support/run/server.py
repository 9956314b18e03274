"""A server of g4 in this process, on a free port of 127.0.0.1; models run in worker processes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import uvicorn

from g4cli.operations.chat.request import ChatRequest
from g4cli.operations.serving.opening import make_service
from g4cli.operations.serving.options import ServeOptions
from g4cli.operations.serving.service import Service
from g4cli.server.app import make_app
from g4cli.server.guard import GuardOptions, Served
from g4cli.server.protocol import TimedProtocol
from g4cli.server.run import GRACE_S
from tests.support.fakes.reporter import RecordingReporter


@dataclass
class RunningServer:
    """A server that answers at `url`; `log` and `reporter` hold what it told."""

    url: str
    service: Service
    reporter: RecordingReporter
    log: list[Served] = field(default_factory=list)

    @property
    def openai_url(self) -> str:
        """The base URL as OpenAI's clients want it."""
        return f"{self.url}/v1"


@contextmanager
def run_server(options: ServeOptions, guard: GuardOptions | None = None) -> Iterator[RunningServer]:
    """Yield a running server with the models of `options`; it has ended after the block."""
    reporter = RecordingReporter()
    service = make_service(options, reporter)
    with run_service(service, guard, reporter) as running:
        yield running


@contextmanager
def run_service(
    service: Service,
    guard: GuardOptions | None = None,
    reporter: RecordingReporter | None = None,
    *,
    port: int = 0,
    private: bool = False,
) -> Iterator[RunningServer]:
    """Yield a running server with the models of `service`; it has ended after the block.

    `private`: its page keeps no conversations.
    """
    log: list[Served] = []
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        app = make_app(service, guard or GuardOptions(), log.append, private=private)
        config = uvicorn.Config(
            app, http=TimedProtocol, log_level="critical", timeout_graceful_shutdown=GRACE_S
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield RunningServer(url, service, reporter or RecordingReporter(), log)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive(), "the server did not stop"


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Return once `condition()` is true. Raises AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)


def tiny_options(path: Path, **changes: object) -> ServeOptions:
    """Return options for a server of the model at `path`: greedy, with 1,024 tokens of context.

    `changes` are fields of ServeOptions, or of its ChatRequest.
    """
    own = {field.name for field in fields(ServeOptions)}
    chat: dict[str, object] = {"ctx": "1024", "threads": 1, "temp": 0.0}
    chat |= {name: value for name, value in changes.items() if name not in own}
    options = {"models": [str(path)], "chat": ChatRequest(**chat)}  # type: ignore[arg-type]
    options |= {name: value for name, value in changes.items() if name in own}
    return ServeOptions(**options)  # type: ignore[arg-type]
