"""Ask a server of llama.cpp's RPC protocol for its version, its devices and their memory.

A message is a command (1 byte), the size of its body (8 bytes) and the body; an answer is its size
and its body, numbers little-endian. Source: ggml/src/ggml-rpc/ggml-rpc.cpp, llama.cpp@0c1e57098.

llama.cpp's own client ends its process where a server is absent, silent or not of RPC. This client
has a time limit for each step, and reads no more bytes than an answer may have: whatever answers is
hostile until checked.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import Final

PROTOCOL: Final = (7, 0, 0)
"""RPC_PROTO_*_VERSION of the llama.cpp that g4 pins; it changes with ggml's operations."""

# enum rpc_cmd
_GET_DEVICE_MEMORY: Final = 11
HELLO: Final = 14
_DEVICE_COUNT: Final = 15
_CAPS_BYTES: Final = 24  # RPC_CONN_CAPS_SIZE; all zero: plain TCP, no RDMA
_MAX_DEVICES: Final = 16  # GGML_RPC_MAX_SERVERS
_MAX_MEMORY_BYTES: Final = 1 << 50  # 1 PiB: no machine has more
TIMEOUT_S: Final = 5.0  # a choice: a worker in the same network answers in milliseconds


class RpcFault(Exception):
    """What answers is not a server of this protocol. The message begins with "it"."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """The memory of one device of a server."""

    free_bytes: int
    total_bytes: int


class Connection:
    """A connection with a deadline, to be used in a `with` block, which ends it.

    Once the host's address is known, connecting and all that follows take at most `timeout_s`.
    """

    def __init__(self, host: str, port: int, timeout_s: float = TIMEOUT_S) -> None:
        """Connect by IPv4, as llama.cpp does. Raises OSError (TimeoutError among them)."""
        *_, sockaddr = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0]
        self._deadline = time.monotonic() + timeout_s
        self._socket = socket.create_connection((str(sockaddr[0]), port), timeout=timeout_s)

    def send(self, data: bytes) -> None:
        """Send `data`. Raises OSError."""
        self._limit_time()
        self._socket.sendall(data)

    def read(self, n_bytes: int) -> bytes:
        """Return the next bytes. Raises OSError, or RpcFault if the connection ends before."""
        data = b""
        while len(data) < n_bytes:
            self._limit_time()
            piece = self._socket.recv(n_bytes - len(data))
            if not piece:
                raise RpcFault("it closed the connection")
            data += piece
        return data

    def _limit_time(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()


def read_protocol_version(connection: Connection) -> tuple[int, int, int]:
    """Return the server's major, minor and patch version. Raises OSError or RpcFault."""
    # Three bytes of the version, one without a meaning, and what the server can do besides TCP.
    answer = _send_command(connection, HELLO, bytes(_CAPS_BYTES), 4 + _CAPS_BYTES)
    return answer[0], answer[1], answer[2]


def list_device_memory(connection: Connection) -> tuple[DeviceMemory, ...]:
    """Return the memory of each device. Raises OSError or RpcFault.

    The server answers only after `read_protocol_version` on the same connection.
    """
    (count,) = struct.unpack("<I", _send_command(connection, _DEVICE_COUNT, b"", 4))
    if not 1 <= count <= _MAX_DEVICES:
        raise RpcFault(f"it claims to have {count:,} devices")
    devices = []
    for index in range(count):
        answer = _send_command(connection, _GET_DEVICE_MEMORY, struct.pack("<I", index), 16)
        free, total = struct.unpack("<QQ", answer)
        if total > _MAX_MEMORY_BYTES or free > total:
            raise RpcFault(f"it claims {free:,} free bytes of {total:,}")
        devices.append(DeviceMemory(free, total))
    return tuple(devices)


def _send_command(connection: Connection, command: int, body: bytes, answer_bytes: int) -> bytes:
    """Return the body of the answer to `command`, which must have `answer_bytes` bytes."""
    connection.send(struct.pack("<BQ", command, len(body)) + body)
    (size,) = struct.unpack("<Q", connection.read(8))
    if size != answer_bytes:
        raise RpcFault("its answer is not llama.cpp's RPC protocol")
    return connection.read(answer_bytes)
