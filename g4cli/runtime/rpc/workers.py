"""Find out whether a worker can be used, before llama.cpp connects to it, and what memory it has.

`g4 worker` answers a question of g4's own besides llama.cpp's protocol: its build, whether it is
busy, and the memory that is really free (for a CPU, llama.cpp's server reports all of it as free).
llama.cpp's rpc-server does not know the question and closes the connection: then the version of the
protocol is all that can be compared.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from g4cli.core.errors import NetworkError, RuntimeFailed
from g4cli.core.worker_address import WorkerAddress
from g4cli.runtime.rpc.protocol import (
    PROTOCOL,
    TIMEOUT_S,
    Connection,
    DeviceMemory,
    RpcFault,
    list_device_memory,
    read_protocol_version,
)

QUESTION: Final = b"G4WORKER"
"""What asks `g4 worker` for its WorkerInfo; no message of llama.cpp's protocol begins so."""

_MAX_INFO_BYTES: Final = 1 << 14  # a choice: an answer has about 200
_START_HINT: Final = "g4 worker on that machine"


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What `g4 worker` answers: its versions, whether a client uses it, and its memory now.

    `library` is the version of llama-cpp-python, `protocol` that of its RPC protocol. `kinds` are
    those of its devices, as `runtime.llama.devices` has them. `available_bytes` of the host's
    memory are free.
    """

    g4: str
    library: str
    protocol: tuple[int, int, int]
    is_busy: bool
    kinds: tuple[str, ...]
    available_bytes: int


def check_worker(
    address: WorkerAddress, host: str, port: int, timeout_s: float = TIMEOUT_S
) -> tuple[DeviceMemory, ...]:
    """Return the memory of a worker's devices, if it can be used.

    `host` and `port` are where to connect to: for a worker behind a tunnel not those of `address`.
    Raises NetworkError (no answer) or RuntimeFailed (busy, another build, no worker).
    """
    try:
        info = ask_worker_info(host, port, timeout_s)
        if info is not None:
            _require_usable(address, info)
        with Connection(host, port, timeout_s) as connection:
            version = read_protocol_version(connection)
            if version != PROTOCOL:
                raise _make_build_error(address, f"protocol {_format_version(version)}")
            memories = list_device_memory(connection)
    except TimeoutError as err:
        raise NetworkError(
            f"the worker {address} gives no answer: it is unreachable, or it serves another client "
            "(one at a time)",
            hint=_START_HINT,
        ) from err
    except OSError as err:
        raise NetworkError(
            f"no connection to the worker {address}: {err.strerror or err}", hint=_START_HINT
        ) from err
    except RpcFault as err:
        raise RuntimeFailed(f"{address} is not a worker: {err}", hint=_START_HINT) from err
    return memories if info is None else limit_free_memory(memories, info)


def ask_worker_info(host: str, port: int, timeout_s: float = TIMEOUT_S) -> WorkerInfo | None:
    """Return what `g4 worker` says of itself; None from a server that is not `g4 worker`.

    Raises OSError, TimeoutError among it: llama.cpp's rpc-server is silent while it serves another
    client.
    """
    with Connection(host, port, timeout_s) as connection:
        connection.send(QUESTION)
        try:
            (size,) = struct.unpack("<I", connection.read(4))
            if size > _MAX_INFO_BYTES:
                return None
            return parse_info(connection.read(size))
        except (RpcFault, ConnectionError):
            return None


def pack_info(info: WorkerInfo) -> bytes:
    """Return the answer to QUESTION: the size of its JSON (4 bytes, little-endian), then it."""
    body = json.dumps(asdict(info)).encode()
    return struct.pack("<I", len(body)) + body


def parse_info(data: bytes) -> WorkerInfo | None:
    """Return the WorkerInfo in the JSON of an answer, None if it is not one."""
    try:
        given: Any = json.loads(data)
        info = WorkerInfo(**{field.name: given[field.name] for field in fields(WorkerInfo)})
        major, minor, patch = info.protocol
        info = replace(info, protocol=(major, minor, patch), kinds=tuple(info.kinds))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    is_valid = (
        isinstance(info.g4, str)
        and isinstance(info.library, str)
        and isinstance(info.is_busy, bool)
        and all(isinstance(kind, str) for kind in info.kinds)
        and all(type(n) is int for n in (*info.protocol, info.available_bytes))
    )
    return info if is_valid else None


def _require_usable(address: WorkerAddress, info: WorkerInfo) -> None:
    """Raise RuntimeFailed for a worker that is busy or of another build."""
    if info.is_busy:
        raise RuntimeFailed(
            f"the worker {address} serves another client: it has one at a time",
            hint="try again when the other one has ended",
        )
    if info.library != _own_library():
        raise _make_build_error(address, f"llama-cpp-python {info.library[:40]}")
    if info.protocol != PROTOCOL:
        raise _make_build_error(address, f"protocol {_format_version(info.protocol)}")


def _make_build_error(address: WorkerAddress, found: str) -> RuntimeFailed:
    return RuntimeFailed(
        f"the worker {address} has {found}, this machine has llama-cpp-python {_own_library()} "
        f"with protocol {_format_version(PROTOCOL)}: both need the same build",
        hint="the same version of g4 on both machines: g4 --version",
    )


def _own_library() -> str:
    # Not imported above: it imports psutil, for which each process of a model would wait.
    from g4cli.host import engine_version

    return engine_version() or ""


def _format_version(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


def limit_free_memory(
    memories: Sequence[DeviceMemory], info: WorkerInfo
) -> tuple[DeviceMemory, ...]:
    """Return `memories`, for a CPU with no more free bytes than its host has available."""
    available = max(0, info.available_bytes)
    # The two answers may disagree about the number of devices: those without a kind stay as is.
    kinds = (*info.kinds, *[""] * len(memories))
    return tuple(
        DeviceMemory(min(m.free_bytes, available), m.total_bytes) if kind == "cpu" else m
        for m, kind in zip(memories, kinds, strict=False)
    )
