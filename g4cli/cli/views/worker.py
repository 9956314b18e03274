"""What `g4 worker` prints: its address and devices, and who uses it."""

from __future__ import annotations

import sys

from g4cli.cli.output import Output
from g4cli.core.units import size_text
from g4cli.core.worker_address import WORKER_PORT
from g4cli.runtime.rpc.server import WorkerServer


def show_worker(out: Output, server: WorkerServer, *, insecure_network: bool) -> None:
    """Print where the worker listens, what it offers, and how to use it."""
    host, port = server.address
    devices = server.list_devices()
    data = {
        "host": host,
        "port": port,
        "address": f"{host}:{port}",
        "devices": [
            {"name": name, "free_bytes": memory.free_bytes, "total_bytes": memory.total_bytes}
            for name, memory in devices
        ],
    }

    def render() -> None:
        out.line(f"worker at {host}:{port}, for one client at a time")
        for name, memory in devices:
            free, total = size_text(memory.free_bytes), size_text(memory.total_bytes)
            out.line(f"device:   {name}, {free} of {total} free")
        out.line(f"use it:   g4 chat MODEL --rpc {host}:{port}")
        if not insecure_network:
            end = "" if port == WORKER_PORT else f"/{port}"
            out.line(f"          from another machine: --rpc ssh://USER@THIS_MACHINE{end}")
        out.line("Ctrl-C stops the worker.")

    if insecure_network:
        out.warn(
            f"everybody who reaches {host}:{port} can use this machine, and by errors in the "
            "protocol take it over: llama.cpp's authors say never to open it to a network"
        )
    out.result(data, render, brief=f"{host}:{port}")
    sys.stdout.flush()  # whoever starts a worker with --port 0 waits for its address


def describe_event(event: str, detail: str) -> str:
    """Return an event of `runtime.rpc.server` as a sentence.

    `detail` is the address of a client, or how llama.cpp's server "ended".
    """
    return {
        "connected": f"{detail} uses this worker",
        "left": f"{detail} has left",
        "refused": f"{detail} was refused: another client uses this worker",
        "ended": f"{detail}; it was started again",
    }[event]
