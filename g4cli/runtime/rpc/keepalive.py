"""Let the kernel find out that the other side of a connection is gone: a cable that is pulled.

llama.cpp waits for an answer of a worker for ever, and a worker for the next message of a client.
A peer that ended says so; a network that failed says nothing. With these options the kernel asks
the peer when nothing arrives, and ends the connection after about half a minute without an answer.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path
from typing import Final

# A choice: 10 + 4 * 5 = 30 s, longer than a network takes to switch to another path, and short for
# somebody who waits.
IDLE_S: Final = 10  # without traffic before the kernel asks the peer
_INTERVAL_S: Final = 5
_PROBES: Final = 4
# By the name in the module socket: macOS has no TCP_KEEPIDLE and no TCP_USER_TIMEOUT.
_OPTIONS: Final = (
    ("TCP_KEEPIDLE", IDLE_S),
    ("TCP_KEEPALIVE", IDLE_S),
    ("TCP_KEEPINTVL", _INTERVAL_S),
    ("TCP_KEEPCNT", _PROBES),
    # milliseconds that what was sent may stay unconfirmed
    ("TCP_USER_TIMEOUT", (IDLE_S + _INTERVAL_S * _PROBES) * 1000),
)
_FD_FOLDERS: Final = ("/proc/self/fd", "/dev/fd")  # of Linux, of macOS


def detect_dead_peer(connection: socket.socket) -> None:
    """Have the kernel end `connection` when its peer does not answer for half a minute."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        if hasattr(socket, name):
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def watch_connections_to(port: int) -> int:
    """Call `detect_dead_peer` for all TCP connections of this process to `port`.

    Return how many there are. llama.cpp opens them, and gives nobody its sockets: they are found
    among the open files of the process. It connects by IPv4 alone.
    """
    count = 0
    folder = next((f for f in _FD_FOLDERS if Path(f).is_dir()), "")
    for name in os.listdir(folder) if folder else ():
        connection = _open_copy(int(name))
        if connection is None:
            continue
        with connection, contextlib.suppress(OSError):  # one that is not connected
            if connection.family == socket.AF_INET and connection.getpeername()[1] == port:
                detect_dead_peer(connection)
                count += 1
    return count


def _open_copy(fd: int) -> socket.socket | None:
    """Return a socket that shares everything with the open file `fd`; None for no socket."""
    try:
        copy = os.dup(fd)
    except OSError:
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return None
