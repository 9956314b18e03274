"""The options that say how a model runs, which all commands share that load or plan one.

An option whose value is not one of a list, such as --ctx or --draft, arrives as text: what it means
depends on the model, so it is parsed where the model is prepared (`operations/chat/plan.py`, and
`drafting.py` beside it, which makes a path of --draft).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer

from g4cli.cli.options.common import check_threads
from g4cli.core.units import parse_gpu_layers
from g4cli.core.worker_address import WorkerOptions, parse_tensor_split, parse_worker_addresses

# Panels of help pages.
ENGINE: Final = "Engine"
MEDIA: Final = "Images and audio"

CtxOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--ctx",
        metavar="N",
        help="Tokens of context: 8192, 32k, max. Default: as many as fit.",
        rich_help_panel=ENGINE,
    ),
]
KvTypeOpt: TypeAlias = Annotated[
    Literal["f16", "q8_0", "q4_0"],
    typer.Option("--kv-type", help="Type of the KV cache.", rich_help_panel=ENGINE),
]
ThreadsOpt: TypeAlias = Annotated[
    int,
    typer.Option(
        "--threads",
        "-t",
        min=0,
        help="CPU threads; 0: all cores.",
        callback=check_threads,
        rich_help_panel=ENGINE,
    ),
]
GpuLayersOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--gpu-layers",
        metavar="N|auto|all",
        help="Layers to offload, counted from the last; auto: as many as fit.",
        callback=parse_gpu_layers,
        rich_help_panel=ENGINE,
    ),
]
DeviceOpt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="GPU to use, by its name in llama.cpp, such as CUDA0.",
        rich_help_panel=ENGINE,
    ),
]
MmapOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--mmap/--no-mmap",
        help="Map the file into memory instead of reading it.",
        rich_help_panel=ENGINE,
    ),
]
LazyPleOpt: TypeAlias = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(
        "--lazy-ple",
        help="Keep per-layer embeddings on the disk; auto: above 4 GiB.",
        rich_help_panel=ENGINE,
    ),
]
CpuMoeOpt: TypeAlias = Annotated[
    bool,
    typer.Option("--cpu-moe", help="Keep the experts of 26B on the CPU.", rich_help_panel=ENGINE),
]
RpcOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--rpc",
        metavar="HOST:PORT,...",
        help="Give layers to these workers (g4 worker); ssh://USER@HOST opens a tunnel.",
        rich_help_panel=ENGINE,
    ),
]
TensorSplitOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--tensor-split",
        metavar="N,N",
        help="Proportions of the layers on workers and GPUs: 3,1. Default: by free memory.",
        rich_help_panel=ENGINE,
    ),
]
ExpandOpt: TypeAlias = Annotated[
    Literal["bf16", "q8_0"],
    typer.Option(
        "--expand",
        help="Type to expand an SFP8 archive to: bf16 (exact) or q8_0.",
        rich_help_panel=ENGINE,
    ),
]
DraftOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--draft",
        metavar="auto|off|lookup|network|FILE",
        help="Speculative decoding: prompt lookup, or a draft model (network: that of this model).",
        rich_help_panel=ENGINE,
    ),
]
StateCacheOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--state-cache",
        metavar="SIZE|off",
        help="Most disk for prompts that were read (8G); auto: a tenth of what is free.",
        rich_help_panel=ENGINE,
    ),
]
MmprojOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--mmproj",
        help="Encoder of images and audio. Default: the mmproj in the folder of the model.",
        rich_help_panel=MEDIA,
    ),
]
ImageTokensOpt: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--image-tokens",
        help="Most tokens that one image takes: 70, 140, 280, 560 or 1120.",
        rich_help_panel=MEDIA,
    ),
]


def make_worker_options(rpc: str, tensor_split: str) -> WorkerOptions:
    """Return the values of --rpc and --tensor-split. Raises UsageError."""
    return WorkerOptions(parse_worker_addresses(rpc), parse_tensor_split(tensor_split))
