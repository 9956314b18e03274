"""The options of `g4 fit` that `g4 chat` does not have, and the parsers of their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer

from g4cli.cli.completion import complete_known
from g4cli.cli.options.engine import MEDIA
from g4cli.core.errors import UsageError
from g4cli.core.units import GIB, parse_count, parse_size

# Panels of `g4 fit --help`, beside those that other commands have too.
_DETAILS: Final = "Details of the run"
_MACHINE: Final = "Machine"
# A choice: what lies outside is a typing error, such as "8" (bytes) for "8GB".
_MIN_MEMORY_BYTES: Final = GIB // 4
_MAX_MEMORY_BYTES: Final = 1 << 60

# Without MODEL the command gets "" and shows an overview of all models.
FitModelArg: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="Model (e2b, 31b:q8_0), GGUF file, or OWNER/REPO on the hub; none: all models.",
        metavar="MODEL",
        autocompletion=complete_known,
    ),
]
MmprojOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="Include this mmproj (images and audio).", rich_help_panel=MEDIA),
]
ImageTokensOpt: TypeAlias = Annotated[
    int, typer.Option(help="Most tokens per image.", rich_help_panel=MEDIA)
]
UbatchOpt: TypeAlias = Annotated[
    int,
    typer.Option(help="Tokens computed at once (n_ubatch).", min=1, rich_help_panel=_DETAILS),
]
SequencesOpt: TypeAlias = Annotated[
    int, typer.Option(help="Parallel sequences.", min=1, rich_help_panel=_DETAILS)
]
FlashAttnOpt: TypeAlias = Annotated[
    bool, typer.Option(help="Use flash attention.", rich_help_panel=_DETAILS)
]
SwaFullOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--swa-full",
        help="Full-size KV cache for sliding-window layers.",
        rich_help_panel=_DETAILS,
    ),
]
NCpuMoeOpt: TypeAlias = Annotated[
    int,
    typer.Option(
        "--n-cpu-moe",
        min=0,
        help="Keep the experts of the first N layers on the CPU.",
        rich_help_panel=_DETAILS,
    ),
]
GpuOpt: TypeAlias = Annotated[
    Literal["auto", "off", "probe"],
    typer.Option(
        help="auto: use the GPUs of this machine; probe: detect them again; off: ignore them.",
        rich_help_panel=_MACHINE,
    ),
]
MemoryOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Assume a machine with this much memory: 8GB.",
        rich_help_panel=_MACHINE,
    ),
]
GpuMemoryOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Assume a GPU with this much memory: 24GB; two GPUs: 24GB,24GB.",
        rich_help_panel=_MACHINE,
    ),
]
WorkerMemoryOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Assume workers with this much memory: 16GB; two of them: 16GB,8GB.",
        rich_help_panel=_MACHINE,
    ),
]
VerifyOpt: TypeAlias = Annotated[
    bool, typer.Option("--verify", help="Compare with llama.cpp's own figures.")
]
MatrixOpt: TypeAlias = Annotated[
    bool, typer.Option("--matrix", help="Show all models in all types in one table.")
]
MeasureOpt: TypeAlias = Annotated[
    bool,
    typer.Option("--measure", help="Measure again how fast this machine reads weights."),
]


def parse_context(text: str) -> int | Literal["auto", "max"]:
    """Return the value of --ctx: a number of tokens, "max", or "auto" (also for "")."""
    if text in ("", "auto"):
        return "auto"
    return "max" if text == "max" else parse_count(text)


def parse_n_gpu_layers(text: str) -> int:
    """Return the value of --gpu-layers as a number, -1 for "auto".

    `text` comes from `core.units.parse_gpu_layers`, which has replaced "all" by a number.
    """
    return -1 if text == "auto" else int(text)


def parse_memory(text: str, example: str) -> int:
    """Return the bytes that `text` ("8GB") gives to a device.

    Raises UsageError for text that is no size of a memory, with `example`, an option, as the hint.
    """
    nbytes = parse_size(text)
    if not _MIN_MEMORY_BYTES <= nbytes < _MAX_MEMORY_BYTES:
        raise UsageError(f"{text!r} is not a valid memory size (0.25 GiB or more)", hint=example)
    return nbytes
