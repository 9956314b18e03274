"""Servers on the loopback address: scripted answers, TLS with their own CA, a CONNECT proxy."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import trustme

NAMES = ("localhost", "127.0.0.1", "hub.example", "storage.example")


@lru_cache(maxsize=1)
def _authority() -> tuple[trustme.CA, ssl.SSLContext]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*NAMES).configure_cert(context)
    return authority, context


def server_context() -> ssl.SSLContext:
    """Return the server's side of TLS for every name of NAMES."""
    return _authority()[1]


def write_authority(path: Path) -> Path:
    """Write the certificate of the authority that a client must trust; return `path`."""
    path.write_bytes(_authority()[0].cert_pem.bytes())
    return path


def answer(
    body: bytes, range_: str, *, head: str = "", status: str = "206 Partial Content"
) -> bytes:
    """Return a whole answer of HTTP/1.1; `head` replaces the Content-Length line."""
    lines = f"HTTP/1.1 {status}\r\nContent-Range: bytes {range_}\r\n"
    return (lines + (head or f"Content-Length: {len(body)}\r\n") + "\r\n").encode() + body


@dataclass(frozen=True)
class Drip:
    """A step of a Script: `start` answers the request, then `drop` comes again and again."""

    start: bytes
    drop: bytes = b"x"
    pause_s: float = 0.02


@dataclass
class Script:
    """What a server does with each connection: for each request the next step, then it hangs up.

    A step is the bytes to send; a number waits until the reader has hung up; a Drip never ends.
    """

    connections: list[list[bytes | int | Drip]]
    port: int = 0
    requests: list[bytes] = field(default_factory=list)


@contextmanager
def scripted(script: Script, *, tls: bool = False) -> Iterator[Script]:
    """Serve `script` until the block ends."""

    def serve(sock: socket.socket) -> None:
        for steps in script.connections:
            with suppress(OSError):
                opened, _ = sock.accept()
                with (
                    server_context().wrap_socket(opened, server_side=True)
                    if tls
                    else opened as peer
                ):
                    _play(script, peer, steps)

    with _listening(serve) as script.port:
        yield script


def _play(script: Script, peer: socket.socket, steps: list[bytes | int | Drip]) -> None:
    for step in steps:
        if isinstance(step, int):
            while peer.recv(4096):
                pass
            return
        start = step.start if isinstance(step, Drip) else step
        head = b""
        while b"\r\n\r\n" not in head and start.startswith(b"HTTP"):
            if not (more := peer.recv(4096)):
                return
            head += more
        script.requests.append(head)
        peer.sendall(start)
        while isinstance(step, Drip):
            time.sleep(step.pause_s)
            peer.sendall(step.drop)


@contextmanager
def connect_proxy(port: int, seen: list[str]) -> Iterator[int]:
    """Yield the port of a proxy that tunnels every CONNECT to `port`; `seen` gets what was asked
    for.
    """

    def serve(sock: socket.socket) -> None:
        while True:
            try:
                client, _ = sock.accept()
            except OSError:
                return
            threading.Thread(target=tunnel, args=[client], daemon=True).start()

    def tunnel(client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            lines = head.decode().splitlines()
            login = next((x for x in lines if x.lower().startswith("proxy-authorization")), "")
            seen.append(" ".join([*lines[0].split()[:2], login.rpartition(" ")[2]]))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_copy, args=[server, client], daemon=True)
            back.start()
            _copy(client, server)
            back.join()

    with _listening(serve) as own:
        yield own


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@contextmanager
def _listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    sock = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve, args=[sock], daemon=True)
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        # A close alone does not wake an accept.
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        thread.join(5)
