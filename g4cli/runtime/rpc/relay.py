"""What `g4 worker` puts before llama.cpp's RPC server: one client at a time, and g4's own question.

llama.cpp's server accepts a connection, serves it to its end and only then looks at the next one: a
second client waits without a word. It cannot tell its build either. So `g4 worker` listens itself
and passes the bytes of one client at a time to llama.cpp's server in the child process; a second
one is refused after `_PATIENCE_S` seconds, and whoever asks (`workers.QUESTION`) learns of it.

A client opens several connections one after the other: to ask for devices, then to work. The next
one may arrive before the end of the last one was noticed, so it waits `_PATIENCE_S` for its turn.
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

_ASKING_S: Final = 1.0  # a connection that lasts longer than this is one that works
_PATIENCE_S: Final = 2.0  # until the end of the connection before is noticed
_FIRST_S: Final = 10.0  # for the first bytes of a client, and to reach llama.cpp's server
_MOST_CONNECTIONS: Final = 16  # further ones are closed at once
_AGAIN_S: Final = 0.1  # after a connection that could not be accepted
_PIECE_BYTES: Final = 1 << 20


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

        `tell` is called with "connected", "left" or "refused", and the address of the client.
        """
        self._listener, self._target = listener, target
        self._make_info, self._tell = make_info, tell
        self._turn = threading.Lock()
        self._places = threading.Semaphore(_MOST_CONNECTIONS)

    def serve(self) -> None:
        """Serve clients until the listener is closed."""
        while True:
            try:
                client, address = self._listener.accept()
            except OSError:
                if self._listener.fileno() < 0:
                    return
                time.sleep(_AGAIN_S)  # this one failed, or too many files are open
                continue
            if not self._places.acquire(blocking=False):
                client.close()
                continue
            threading.Thread(
                target=self._serve_client, args=(client, address[0]), daemon=True
            ).start()

    def _serve_client(self, client: socket.socket, name: str) -> None:
        try:
            with client, contextlib.suppress(OSError):
                client.settimeout(_FIRST_S)
                # The first byte tells g4's question from the first command of a client.
                first = client.recv(1, socket.MSG_PEEK)
                if first == QUESTION[:1]:
                    self._answer_question(client)
                elif first == bytes([HELLO]):
                    self._pass_on(client, name)
        finally:
            self._places.release()

    def _answer_question(self, client: socket.socket) -> None:
        asked = b""
        while len(asked) < len(QUESTION) and (part := client.recv(len(QUESTION) - len(asked))):
            asked += part
        if asked == QUESTION:
            client.sendall(pack_info(self._make_info(self._turn.locked())))

    def _pass_on(self, client: socket.socket, name: str) -> None:
        if not self._turn.acquire(timeout=_PATIENCE_S):
            self._tell("refused", name)
            return
        try:
            with socket.create_connection(self._target, timeout=_FIRST_S) as server:
                told = threading.Event()
                timer = threading.Timer(_ASKING_S, self._tell_connected, (told, name))
                timer.start()
                for end in (client, server):
                    end.settimeout(None)
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                detect_dead_peer(client)
                back = threading.Thread(target=_copy_bytes, args=(server, client), daemon=True)
                back.start()
                _copy_bytes(client, server)
                back.join()
                timer.cancel()
                if told.is_set():
                    self._tell("left", name)
        finally:
            self._turn.release()

    def _tell_connected(self, told: threading.Event, name: str) -> None:
        told.set()
        self._tell("connected", name)


def _copy_bytes(source: socket.socket, target: socket.socket) -> None:
    """Pass on what `source` sends until either side ends; then both sides end."""
    buffer = memoryview(bytearray(_PIECE_BYTES))
    with contextlib.suppress(OSError):
        while n_bytes := source.recv_into(buffer):
            target.sendall(buffer[:n_bytes])
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
