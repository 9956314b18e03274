"""The options for layers on other machines: --rpc and --tensor-split."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import typer

from g4cli.core.worker_address import WorkerOptions, parse_tensor_split, parse_worker_addresses

_ENGINE = "Engine"


def make_worker_options(rpc: str, tensor_split: str) -> WorkerOptions:
    """Return the values of --rpc and --tensor-split. Raises UsageError."""
    return WorkerOptions(parse_worker_addresses(rpc), parse_tensor_split(tensor_split))


def make_rpc_option(help_text: str, panel: str) -> Any:
    """Return the option --rpc, shown in `panel` of a command's help."""
    return typer.Option(
        "--rpc",
        metavar="HOST:PORT,...",
        help=help_text,
        rich_help_panel=panel,
    )


def make_tensor_split_option(panel: str) -> Any:
    """Return the option --tensor-split, shown in `panel` of a command's help."""
    return typer.Option(
        "--tensor-split",
        metavar="N,N",
        help="Proportions of the layers on workers and GPUs: 3,1. Default: by free memory.",
        rich_help_panel=panel,
    )


RpcOpt: TypeAlias = Annotated[
    str,
    make_rpc_option(
        "Give layers to these workers (g4 worker); ssh://USER@HOST opens a tunnel.", _ENGINE
    ),
]
TensorSplitOpt: TypeAlias = Annotated[str, make_tensor_split_option(_ENGINE)]
