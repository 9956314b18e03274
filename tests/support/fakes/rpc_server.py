"""Servers of llama.cpp's RPC protocol that say what a test wants, and `g4 worker` in a process.

The bytes are written down here again, from ggml/src/ggml-rpc/ggml-rpc.cpp.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.support.run.g4_process import start_g4

GET_DEVICE_MEMORY, HELLO, DEVICE_COUNT = 11, 14, 15  # enum rpc_cmd
CAPS_BYTES = 24  # RPC_CONN_CAPS_SIZE
QUESTION = b"G4WORKER"  # g4's own: no command begins with its first byte


@dataclass
class FakeRpc:
    """What a server answers. `hello` and `counts`, if given, are sent instead of its own answers.

    `silent`: it accepts connections and says nothing. `info` answers g4's own question; None: it
    closes the connection, as llama.cpp's rpc-server does.
    """

    version: tuple[int, int, int] = (7, 0, 0)
    memory: Sequence[tuple[int, int]] = ((8 << 30, 16 << 30),)
    silent: bool = False
    info: bytes | None = None
    hello: bytes | None = None
    counts: bytes | None = None

    def answer(self, command: int, body: bytes) -> bytes:
        """Return the answer to a command, with its size before it."""
        if command == HELLO:
            return self.hello or _sized(bytes(self.version) + bytes(1 + CAPS_BYTES))
        if command == DEVICE_COUNT:
            return self.counts or _sized(struct.pack("<I", len(self.memory)))
        assert command == GET_DEVICE_MEMORY
        (index,) = struct.unpack("<I", body)
        return _sized(struct.pack("<QQ", *self.memory[index]))


def _sized(body: bytes) -> bytes:
    return struct.pack("<Q", len(body)) + body


@contextmanager
def fake_rpc(server: FakeRpc) -> Iterator[int]:
    """Yield the port of `server` on the loopback address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_serve, args=(listener, server), daemon=True).start()
        yield listener.getsockname()[1]


def _serve(listener: socket.socket, server: FakeRpc) -> None:
    silent_clients = ExitStack()
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            silent_clients.close()
            return
        if server.silent:
            silent_clients.enter_context(client)
            continue
        with client, suppress(OSError, struct.error):
            first = client.recv(1, socket.MSG_PEEK)
            if first == QUESTION[:1]:
                if server.info is not None:
                    client.recv(len(QUESTION))
                    client.sendall(server.info)
                continue
            while head := client.recv(9, socket.MSG_WAITALL):
                command, size = struct.unpack("<BQ", head)
                client.sendall(
                    server.answer(command, client.recv(size, socket.MSG_WAITALL) if size else b"")
                )


class WorkerProcess:
    """`g4 worker` as a user starts it: its port, and what it wrote."""

    def __init__(self, process: subprocess.Popen[str], start: dict[str, Any]) -> None:
        self.process, self.start = process, start
        self.port: int = start["port"]
        self.address: str = start["address"]

    def kill(self) -> None:
        """Kill it, as a machine that fails."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def running_worker(*args: str, port: int = 0) -> Iterator[WorkerProcess]:
    """Yield a `g4 worker` that is ready; it is killed after the block."""
    with start_g4("worker", "--port", str(port), *args) as (process, start):
        yield WorkerProcess(process, start)
