"""`g4 worker`: the relay in this process, llama.cpp's RPC server in a child process.

A client can make llama.cpp's server abort, by what it sends or by dying in the middle of it. Then
another child takes its place, so that the next client finds a worker.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from g4cli import __version__
from g4cli.core.child import exit_text, start_child
from g4cli.core.errors import RuntimeFailed, UsageError, error_of
from g4cli.core.files import make_folder
from g4cli.core.loopback import is_loopback
from g4cli.core.paths import cache_dir
from g4cli.host import engine_version, read_host
from g4cli.runtime.engine.ending import find_reason
from g4cli.runtime.engine.process import LARGE_PAGES
from g4cli.runtime.rpc.protocol import (
    PROTOCOL,
    Connection,
    DeviceMemory,
    RpcFault,
    list_device_memory,
    read_protocol_version,
)
from g4cli.runtime.rpc.relay import Relay
from g4cli.runtime.rpc.tunnel import find_free_port
from g4cli.runtime.rpc.workers import WorkerInfo, limit_free_memory

# All are choices.
_START_TIMEOUT_S: Final = 60.0  # drivers of GPUs may take several seconds
_POLL_S: Final = 0.02
_MAX_OUTPUT_LINES: Final = 50  # the reason of an abort is among the last few
_MAX_LINE_CHARACTERS: Final = 500
_LOOPBACK: Final = "127.0.0.1"
# A server that dies more often than this in a row is not started again.
_MAX_DEATHS: Final = 5
_STEADY_S: Final = 60.0  # a server that lived longer than this breaks the row


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How llama.cpp's server runs.

    `device` None: all GPUs, or else the CPU. `n_threads` 0: one for each physical core.
    `cache_folder`: where large tensors are kept for the next time; None: nowhere. `port`: of the
    loopback address, where only the relay connects to it.
    """

    device: str | None = None
    n_threads: int = 0
    cache_folder: str | None = None
    port: int = field(default_factory=find_free_port)


class RpcServer:
    """llama.cpp's server in a child process. Close `child` when done.

    `names` and `kinds` are those of its devices (`runtime.llama.devices`), `memory` what it reports
    of each.
    """

    def __init__(self, options: ServerOptions) -> None:
        """Start it and wait until it answers. Raises RuntimeFailed, UsageError or EngineMissing."""
        self._output: deque[str] = deque(maxlen=_MAX_OUTPUT_LINES)  # its last lines, with line ends
        arguments = [json.dumps(asdict(options))]
        try:
            self.child = start_child(
                "g4cli.runtime.rpc.server_child",
                arguments,
                ignore_interrupt=True,
                environment=LARGE_PAGES,
            )
        except OSError as err:
            raise RuntimeFailed(f"llama.cpp's RPC server cannot be started: {err}") from err
        # What the child writes is read from the start: it never waits for a reader.
        self._errors = self._start_collecting(self.child.stderr)
        try:
            self.names, self.kinds = self._read_devices()
            self._start_collecting(self.child.stdout)
            self.memory = self._wait_until_ready(options.port)
        except BaseException:
            self.child.close()
            raise

    def _read_devices(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        assert self.child.stdout is not None
        line = self.child.stdout.readline()
        try:
            first: dict[str, Any] = json.loads(line)
        except ValueError:
            raise self.make_error() from None
        if "error" in first:
            raise error_of(*first["error"])
        return tuple(first["names"]), tuple(first["kinds"])

    def _start_collecting(self, stream: Any) -> threading.Thread:
        """Return a thread, started, that keeps the last lines of `stream` in `_output`."""

        def collect_lines() -> None:
            with contextlib.suppress(OSError, ValueError):  # the stream was closed meanwhile
                for line in stream:
                    self._output.append(line.decode("utf-8", "replace")[:_MAX_LINE_CHARACTERS])

        thread = threading.Thread(target=collect_lines, daemon=True)
        thread.start()
        return thread

    def _wait_until_ready(self, port: int) -> tuple[DeviceMemory, ...]:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self.child.poll() is None:
            try:
                with Connection(_LOOPBACK, port) as connection:
                    read_protocol_version(connection)
                    return list_device_memory(connection)
            except (OSError, RpcFault):  # another program may listen there by now
                time.sleep(_POLL_S)
        raise self.make_error()

    def make_error(self) -> RuntimeFailed:
        """Return the error that says how the child ended."""
        with contextlib.suppress(Exception):
            self.child.wait(1.0)
        status = self.child.poll()
        if status is None:
            return RuntimeFailed("llama.cpp's RPC server does not answer", hint="g4 doctor")
        self._errors.join(1.0)
        reason = find_reason("".join(self._output)) or "".join(list(self._output)[-1:]).strip()
        how = exit_text(status) + (f": {reason}" if reason else "")
        return RuntimeFailed(f"llama.cpp's RPC server ended ({how})", hint="g4 doctor")


class WorkerServer:
    """A worker that listens at `listener`. `serve` runs until it fails; close it when done."""

    def __init__(
        self,
        listener: socket.socket,
        tell: Callable[[str, str], None],
        options: ServerOptions,
    ) -> None:
        """Start llama.cpp's server. `tell` as Relay has it; and "ended" with how a server died.

        Raises RuntimeFailed, UsageError (no such device) or EngineMissing (no RPC backend).
        """
        self._listener, self._tell, self._options = listener, tell, options
        self.server = RpcServer(options)
        self._relay = Relay(listener, (_LOOPBACK, options.port), self.make_info, tell)

    def make_info(self, is_busy: bool) -> WorkerInfo:
        """Return what a client learns of this worker. `is_busy`: another client uses it."""
        return WorkerInfo(
            g4=__version__,
            library=engine_version() or "",
            protocol=PROTOCOL,
            is_busy=is_busy,
            kinds=self.server.kinds,
            available_bytes=read_host().available_bytes,
        )

    @property
    def address(self) -> tuple[str, int]:
        """Return the address and the port at which it listens."""
        host, port = self._listener.getsockname()[:2]
        return host, port

    def list_devices(self) -> tuple[tuple[str, DeviceMemory], ...]:
        """Return the name of each device, and its memory as a client sees it."""
        info = self.make_info(False)
        memories = limit_free_memory(self.server.memory, info)
        return tuple(zip(self.server.names, memories, strict=True))

    def serve(self) -> None:
        """Serve clients; start llama.cpp's server again when a client made it end.

        Raises RuntimeFailed if it ends again and again.
        """
        threading.Thread(target=self._relay.serve, daemon=True).start()
        deaths = 0
        while True:
            started = time.monotonic()
            self.server.child.wait()
            deaths = 1 if time.monotonic() - started > _STEADY_S else deaths + 1
            error = self.server.make_error()
            if deaths > _MAX_DEATHS:
                raise error
            self._tell("ended", error.message)
            self.server.child.close()
            self.server = RpcServer(self._options)

    def serve_until_stopped(self) -> None:
        """Serve clients until Ctrl-C or SIGTERM. Raises what `serve` raises."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt):
            self.serve()

    def __enter__(self) -> WorkerServer:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, and end llama.cpp's server."""
        self._relay.close()
        self.server.child.close()


def make_cache_folder() -> str:
    """Return the folder for large tensors, which is made if it is absent. Raises UsageError."""
    folder = cache_dir() / "rpc"
    try:
        make_folder(folder, private=True)
    except OSError as err:
        raise UsageError(
            f"{folder} cannot be made: {err.strerror}", hint="g4 worker without --cache"
        ) from err
    return str(folder)


def require_private_address(host: str, *, insecure_network: bool) -> None:
    """Raise UsageError if other machines could reach a worker that listens at `host`."""
    if not is_loopback(host) and not insecure_network:
        raise UsageError(
            f"at {host}, everybody in the network could take this machine over: the protocol of "
            "llama.cpp has neither passwords nor encryption",
            hint="g4 worker, and --rpc ssh://USER@HOST on the other machine; or "
            "--insecure-network if you trust all that reach this address",
        )


def open_listener(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an IPv4 address; `port` 0 takes a free one.

    Raises UsageError.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET, backlog=16)
    except (OSError, OverflowError) as err:
        raise UsageError(
            f"the worker cannot listen at {host}, port {port}: {err.args[-1]}",
            hint="g4 worker --port 0",
        ) from err
