"""The options that say how a model runs, which all commands share that load or plan one.

An option whose value is not one of a list, such as --ctx or --draft, arrives as text. What it means
depends on the model, so it is parsed where the model is prepared: for a chat in
`operations/chat/plan.py` and `drafting.py` beside it, which makes a path of --draft; for `g4 fit`,
which prepares none, in `options/fit.py`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer

from g4cli.cli.options.common import check_threads
from g4cli.core.units import parse_gpu_layers
from g4cli.core.worker_address import (
    WORKER_PORT,
    WorkerOptions,
    parse_tensor_split,
    parse_worker_addresses,
)

# For `g4 worker`: at its top a module of commands imports only what every command needs of core
# (tests/architecture/test_layers.py), to which addresses of workers do not belong.
DEFAULT_WORKER_PORT: Final = WORKER_PORT


def _check_gpu_layers(text: str) -> str:
    parse_gpu_layers(text)
    return text


def _check_image_tokens(n_tokens: int | None) -> int | None:
    if n_tokens is not None:
        from g4cli.runtime.engine.options import require_image_tokens

        require_image_tokens(n_tokens)
    return n_tokens


# The panels of help pages in which these options stand.
engine_option = partial(typer.Option, rich_help_panel="Engine")
media_option = partial(typer.Option, rich_help_panel="Images and audio")

CtxOpt: TypeAlias = Annotated[
    str,
    engine_option(
        "--ctx", metavar="N", help="Tokens of context: 8192, 32k, max. Default: as many as fit."
    ),
]
KvTypeOpt: TypeAlias = Annotated[
    Literal["f16", "q8_0", "q4_0"],
    engine_option("--kv-type", help="Type of the KV cache."),
]
ThreadsOpt: TypeAlias = Annotated[
    int,
    engine_option(
        "--threads", "-t", min=0, help="CPU threads; 0: all cores.", callback=check_threads
    ),
]
GpuLayersOpt: TypeAlias = Annotated[
    str,
    engine_option(
        "--gpu-layers",
        metavar="N|auto|all",
        help="Layers to offload, counted from the last; auto: as many as fit.",
        callback=_check_gpu_layers,
    ),
]
DeviceOpt: TypeAlias = Annotated[
    str | None,
    engine_option(
        "--device", metavar="NAME", help="GPU to use, by its name in llama.cpp, such as CUDA0."
    ),
]
MmapOpt: TypeAlias = Annotated[
    bool,
    engine_option("--mmap/--no-mmap", help="Map the file into memory instead of reading it."),
]
LazyPleOpt: TypeAlias = Annotated[
    Literal["auto", "on", "off"],
    engine_option("--lazy-ple", help="Keep per-layer embeddings on the disk; auto: above 4 GiB."),
]
CpuMoeOpt: TypeAlias = Annotated[
    bool,
    engine_option("--cpu-moe", help="Keep the experts of 26B on the CPU."),
]
RpcOpt: TypeAlias = Annotated[
    str,
    engine_option(
        "--rpc",
        metavar="HOST:PORT,...",
        help="Give layers to these workers (g4 worker); ssh://USER@HOST opens a tunnel.",
    ),
]
TensorSplitOpt: TypeAlias = Annotated[
    str,
    engine_option(
        "--tensor-split",
        metavar="N,N",
        help="Proportions of the layers on workers and GPUs: 3,1. Default: by free memory.",
    ),
]
ExpandOpt: TypeAlias = Annotated[
    Literal["bf16", "q8_0"],
    engine_option("--expand", help="Type to expand an SFP8 archive to: bf16 (exact) or q8_0."),
]
DraftOpt: TypeAlias = Annotated[
    str,
    engine_option(
        "--draft",
        metavar="auto|off|lookup|network|FILE",
        help="Speculative decoding: prompt lookup, or a draft model (network: that of this model).",
    ),
]
StateCacheOpt: TypeAlias = Annotated[
    str,
    engine_option(
        "--state-cache",
        metavar="SIZE|off",
        help="Most disk for prompts that were read (8G); auto: a tenth of what is free.",
    ),
]
MmprojOpt: TypeAlias = Annotated[
    Path | None,
    media_option(
        "--mmproj",
        help="Encoder of images and audio. Default: the mmproj in the folder of the model.",
    ),
]
ImageTokensOpt: TypeAlias = Annotated[
    int | None,
    media_option(
        "--image-tokens",
        help="Most tokens that one image takes: 70, 140, 280, 560 or 1120.",
        callback=_check_image_tokens,
    ),
]


def make_worker_options(rpc: str, tensor_split: str) -> WorkerOptions:
    """Return the values of --rpc and --tensor-split. Raises UsageError."""
    return WorkerOptions(parse_worker_addresses(rpc), parse_tensor_split(tensor_split))
