"""llama.cpp's RPC backend: devices of other machines in this process, or this one's for others.

The worker process registers workers of --rpc before it loads a model. The child process of
`g4 worker` (rpc/server_child.py) serves this machine's devices.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Sequence
from typing import Any, Final

from g4cli.core.errors import EngineMissing, NetworkError, UsageError
from g4cli.core.worker_address import WorkerAddress, parse_worker_address
from g4cli.doctor.checks.advice import REBUILD_ENGINE
from g4cli.runtime.llama.devices import (
    declare_functions,
    list_devices,
    load_ggml,
    make_device_error,
)
from g4cli.runtime.llama.library import load_llama
from g4cli.runtime.rpc.keepalive import watch_connections_to
from g4cli.runtime.rpc.tunnel import Tunnel
from g4cli.runtime.rpc.workers import check_worker

_ADD_SERVER: Final = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p)
# endpoint, cache folder or NULL, threads, number of devices, devices
START_SERVER: Final = ctypes.CFUNCTYPE(
    None,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_void_p),
)
# llama.cpp never forgets a server that was added: the following three hold to the end of the
# process. It loads a model, and then its draft model, on the same workers: each is asked only once.
REGISTERED: Final[dict[str, tuple[int, ...]]] = {}  # address of a worker: its ggml devices
_ports: Final[set[int]] = set()  # that this process connects to: of workers or of tunnels
_tunnels: Final[list[Tunnel]] = []


def require_rpc() -> None:
    """Raise EngineMissing if this build of llama.cpp has no RPC backend."""
    if not load_llama().llama_supports_rpc():
        raise EngineMissing(
            "this build of llama.cpp works on one machine: it was compiled without its RPC backend",
            hint=REBUILD_ENGINE,
        )


def register_workers(addresses: Sequence[str]) -> tuple[int, ...]:
    """Return the ggml devices (ggml_backend_dev_t) of workers, in the order of `addresses`.

    llama.cpp would end this process if one of them could not be used: each is asked first. Raises
    EngineMissing, NetworkError, RuntimeFailed or UsageError.
    """
    if not addresses:
        return ()
    require_rpc()
    devices: list[int] = []
    for text in addresses:
        if text not in REGISTERED:
            REGISTERED[text] = register_worker(parse_worker_address(text))
        devices += REGISTERED[text]
    if len(set(devices)) < len(devices):  # as localhost and 127.0.0.1
        raise UsageError("--rpc names a worker twice", hint="--rpc HOST:PORT,HOST:PORT")
    return tuple(devices)


def watch_workers() -> None:
    """Have the kernel end connections to workers that do not answer: a cable that is pulled.

    It holds for those that are open now: call it when loading has begun, which opens them.
    """
    for port in _ports:
        watch_connections_to(port)


def register_worker(address: WorkerAddress) -> tuple[int, ...]:
    """Return the ggml devices of a worker, which are known to llama.cpp from now on."""
    host, port = address.host, address.port
    if address.ssh is not None:
        tunnel = Tunnel(address.ssh, address.port)
        _tunnels.append(tunnel)
        host, port = "127.0.0.1", tunnel.port
    # An address instead of the name: llama.cpp would look the name up for each connection, and one
    # that has several addresses may not be the worker that was checked.
    host = _find_ipv4(host, address)
    check_worker(address, host, port)
    ggml = load_rpc()
    endpoint = f"{host}:{port}"
    add_server = _ADD_SERVER(find_function(ggml, b"ggml_backend_rpc_add_server"))
    registry = add_server(endpoint.encode())
    if not registry:  # it had some when it was checked
        raise NetworkError(f"the worker {address} has no devices", hint="g4 worker --device CPU")
    ggml.ggml_backend_register(registry)
    _ports.add(port)
    return tuple(
        int(ggml.ggml_backend_reg_dev_get(registry, index))
        for index in range(ggml.ggml_backend_reg_dev_count(registry))
    )


def _find_ipv4(host: str, address: WorkerAddress) -> str:
    """Return an IPv4 address of `host`, the only kind that ggml's client connects to."""
    try:
        *_, sockaddr = socket.getaddrinfo(host, None, socket.AF_INET)[0]
        return str(sockaddr[0])  # of (address, port)
    except OSError as err:
        raise NetworkError(f"no address of the worker {address}: {err}") from err


def choose_worker_devices(name: str | None) -> tuple[tuple[str, str], ...]:
    """Return name and kind of the devices that this machine offers: all GPUs, or else the CPU.

    `name` asks for one device. As llama.cpp's rpc-server chooses them (tools/rpc/rpc-server.cpp).
    Raises UsageError or EngineMissing.
    """
    devices = list_devices()
    if name is None:
        chosen = [d for d in devices if d.kind in ("gpu", "igpu")]
        chosen = chosen or [d for d in devices if d.kind == "cpu"][:1]
    else:  # as ggml_backend_dev_by_name compares
        chosen = [d for d in devices if d.name.lower() == name.lower()]
    if not chosen:
        raise make_device_error(name or "CPU")  # which every build should have
    return tuple((device.name, device.kind) for device in chosen)


def serve_devices(
    names: Sequence[str], host: str, port: int, n_threads: int, cache_folder: str | None
) -> None:
    """Serve devices to one client after the other; return only if the port cannot be opened.

    `cache_folder`: where llama.cpp keeps large tensors for the next client; None: nowhere. Raises
    EngineMissing.
    """
    require_rpc()
    ggml = load_rpc()
    array = (ctypes.c_void_p * len(names))(
        *[ggml.ggml_backend_dev_by_name(name.encode()) for name in names]
    )
    start_server = START_SERVER(find_function(ggml, b"ggml_backend_rpc_start_server"))
    folder = os.fsencode(cache_folder) if cache_folder else None
    start_server(f"{host}:{port}".encode(), folder, n_threads, len(names), array)


def load_rpc() -> Any:
    """Return ggml with the functions that find its RPC backend declared."""
    ggml = load_ggml()
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    declare_functions(
        ggml,
        ("ggml_backend_reg_by_name", pointer, [text]),
        ("ggml_backend_reg_get_proc_address", pointer, [pointer, text]),
        ("ggml_backend_reg_dev_count", ctypes.c_size_t, [pointer]),
        ("ggml_backend_reg_dev_get", pointer, [pointer, ctypes.c_size_t]),
        ("ggml_backend_register", None, [pointer]),
    )
    return ggml


def find_function(ggml: Any, name: bytes) -> int:
    """Return the address of a function of the RPC backend, 0 without one."""
    registry = ggml.ggml_backend_reg_by_name(b"RPC")
    return int(ggml.ggml_backend_reg_get_proc_address(registry, name))
