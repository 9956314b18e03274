"""The options for layers on other machines: chat, serve, bench and eval share them.

`g4 fit` declares its own (options/fit.py): it also takes workers that do not exist yet.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from g4cli.core.worker_address import WorkerOptions, parse_tensor_split, parse_worker_addresses

_ENGINE = "Engine"


def check_rpc(text: str) -> str:
    """Return the value of --rpc. Raises UsageError unless it is a list of addresses."""
    parse_worker_addresses(text)
    return text


def check_tensor_split(text: str) -> str:
    """Return the value of --tensor-split. Raises UsageError unless it is a list of numbers."""
    parse_tensor_split(text)
    return text


def make_worker_options(rpc: str, tensor_split: str) -> WorkerOptions:
    """Return the values of --rpc and --tensor-split. Raises UsageError."""
    return WorkerOptions(parse_worker_addresses(rpc), parse_tensor_split(tensor_split))


RpcOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--rpc",
        metavar="HOST:PORT,...",
        help="Give layers to these workers (g4 worker); ssh://USER@HOST opens a tunnel.",
        callback=check_rpc,
        rich_help_panel=_ENGINE,
    ),
]
TensorSplitOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--tensor-split",
        metavar="N,N",
        help="Proportions of the layers on workers and GPUs: 3,1. Default: by free memory.",
        callback=check_tensor_split,
        rich_help_panel=_ENGINE,
    ),
]
