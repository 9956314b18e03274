"""What `g4 worker` puts before llama.cpp's RPC server: one client at a time, and g4's own question.

llama.cpp's server accepts a connection, serves it to its end and only then looks at the next one: a
second client waits without a word. It cannot tell its build either. So `g4 worker` listens itself
and passes the bytes of one client at a time to llama.cpp's server in the child process; a second
one is refused after `_PATIENCE_S` seconds, and whoever asks (`workers.QUESTION`) learns of it.

A client opens several connections one after the other: to ask for devices, then to work. The next
one may arrive before the end of the last one was noticed, so it waits `_PATIENCE_S` for its turn,
and so does a question whether a client is served.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from g4cli.runtime.rpc.keepalive import detect_dead_peer
from g4cli.runtime.rpc.protocol import HELLO
from g4cli.runtime.rpc.workers import QUESTION, WorkerInfo, pack_info

# All are choices. Connections that only ask for devices take milliseconds, those that work minutes.
TELL_AFTER_S: Final = 1.0  # a client that stays longer than this is reported as connected
_PATIENCE_S: Final = 2.0  # for the end of the connection before to be noticed
_FIRST_BYTES_S: Final = 10.0  # for the first bytes of a client, and to reach llama.cpp's server
_MAX_CONNECTIONS: Final = 16  # further ones are closed at once; each takes a thread
_ACCEPT_PAUSE_S: Final = 0.1  # after a connection that could not be accepted
_COPY_BYTES: Final = 1 << 20  # read at once; weights are sent in messages of many MiB


class Relay:
    """Passes clients of `listener` to llama.cpp's server at `target`, one at a time."""

    def __init__(
        self,
        listener: socket.socket,
        target: tuple[str, int],
        make_info: Callable[[bool], WorkerInfo],
        tell: Callable[[str, str], None],
    ) -> None:
        """`make_info` is called with whether a client is served.

        `tell` is called with "connected", "left" or "refused", and the address of the client; by
        several threads at once, if there are several clients. Of a server that cannot be reached
        nothing is told: WorkerServer notices its end.
        """
        self._listener, self._target = listener, target
        self._make_info, self._tell = make_info, tell
        self._server_lock = threading.Lock()
        self._free_connections = threading.Semaphore(_MAX_CONNECTIONS)

    def close(self) -> None:
        """Close the listener, which ends `serve`."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # on Linux, close alone does not end accept
        self._listener.close()

    def serve(self) -> None:
        """Serve clients until `close`."""
        while True:
            try:
                client, address = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                time.sleep(_ACCEPT_PAUSE_S)  # this one failed, or too many files are open
                continue
            if not self._free_connections.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(
                target=self._serve_client, args=(client, address[0]), daemon=True
            ).start()

    def _serve_client(self, client: socket.socket, name: str) -> None:
        try:
            with client, contextlib.suppress(OSError):
                client.settimeout(_FIRST_BYTES_S)
                # The first byte tells g4's question from the first command of a client.
                first = client.recv(1, socket.MSG_PEEK)
                if first == QUESTION[:1]:
                    self._answer_question(client)
                elif first == bytes([HELLO]):
                    self._serve_llama_client(client, name)
        finally:
            self._free_connections.release()

    def _answer_question(self, client: socket.socket) -> None:
        received = b""
        while missing := len(QUESTION) - len(received):
            if not (piece := client.recv(missing)):
                return  # it closed the connection
            received += piece
        if received == QUESTION:
            is_free = self._server_lock.acquire(timeout=_PATIENCE_S)
            if is_free:
                self._server_lock.release()
            client.sendall(pack_info(self._make_info(not is_free)))

    def _serve_llama_client(self, client: socket.socket, name: str) -> None:
        if not self._server_lock.acquire(timeout=_PATIENCE_S):
            self._tell("refused", name)
            return
        try:
            with socket.create_connection(self._target, timeout=_FIRST_BYTES_S) as server:
                for end in (client, server):
                    end.settimeout(None)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                detect_dead_peer(client)
                told = threading.Event()
                timer = threading.Timer(TELL_AFTER_S, self._tell_connected, (told, name))
                timer.start()
                back = threading.Thread(target=_copy_bytes, args=(server, client), daemon=True)
                back.start()
                _copy_bytes(client, server)
                back.join()
                timer.cancel()
                timer.join()  # "connected" may be told at this moment; "left" follows it
                if told.is_set():
                    self._tell("left", name)
        finally:
            self._server_lock.release()

    def _tell_connected(self, told: threading.Event, name: str) -> None:
        told.set()
        self._tell("connected", name)


def _copy_bytes(source: socket.socket, target: socket.socket) -> None:
    """Pass on what `source` sends until either side ends; then both sides end."""
    buffer = memoryview(bytearray(_COPY_BYTES))
    with contextlib.suppress(OSError):
        while n_bytes := source.recv_into(buffer):
            target.sendall(buffer[:n_bytes])
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
