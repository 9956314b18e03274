"""The options of `g4 worker`."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import typer

from g4cli.core.worker_address import WORKER_PORT

DEFAULT_PORT: Final = WORKER_PORT  # commands import core only when they run

HostOpt: TypeAlias = Annotated[
    str, typer.Option("--host", metavar="ADDRESS", help="IPv4 address to listen at.")
]
PortOpt: TypeAlias = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Port to listen at; 0: a free one.")
]
DeviceOpt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Device to offer, by its name in llama.cpp: CPU, CUDA0. Default: all GPUs, or the "
        "CPU.",
    ),
]
CacheOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--cache", help="Keep large matrices on the disk: a model is sent once, then found there."
    ),
]
InsecureOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--insecure-network",
        help="Listen at an address of the network, where anybody may take this machine over.",
    ),
]
