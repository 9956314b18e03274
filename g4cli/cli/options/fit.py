"""The options that `g4 fit` has alone or declares in its own way, their parsers and checks.

The others are in options/engine.py, shared with `g4 chat` and the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer

from g4cli.cli.completion import complete_known
from g4cli.cli.options.engine import media_option
from g4cli.cli.settings import Origin
from g4cli.core.errors import UsageError
from g4cli.core.units import GIB, parse_count, parse_size

# The panels of `g4 fit --help` in which options stand, beside those of `g4 chat`.
_details_option = partial(typer.Option, rich_help_panel="Details of the run")
_machine_option = partial(typer.Option, rich_help_panel="Machine")
# A choice: what lies outside is a typing error, such as "8" (bytes) for "8GB".
_MIN_MEMORY_BYTES: Final = GIB // 4
_MAX_MEMORY_BYTES: Final = 1 << 60

# The options that mean something where all models are judged, and not one.
_MACHINE: Final = ("gpu", "memory", "gpu_memory", "worker_memory", "rpc", "tensor_split", "kv_type")
# "model": a preset that names none.
_OVERVIEW: Final = frozenset((*_MACHINE, "model", "ctx", "json", "quiet"))
_MATRIX: Final = frozenset((*_MACHINE, "matrix", "json", "quiet"))
_MEASURE: Final = frozenset(("measure", "gpu", "kv_type", "ctx", "json", "quiet"))

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
    media_option(help="Include this mmproj (images and audio)."),
]
UbatchOpt: TypeAlias = Annotated[
    int,
    _details_option(help="Tokens computed at once (n_ubatch).", min=1),
]
SequencesOpt: TypeAlias = Annotated[int, _details_option(help="Parallel sequences.", min=1)]
FlashAttnOpt: TypeAlias = Annotated[bool, _details_option(help="Use flash attention.")]
SwaFullOpt: TypeAlias = Annotated[
    bool,
    _details_option("--swa-full", help="Full-size KV cache for sliding-window layers."),
]
NCpuMoeOpt: TypeAlias = Annotated[
    int,
    _details_option(
        "--n-cpu-moe", min=0, help="Keep the experts of the first N layers on the CPU."
    ),
]
GpuOpt: TypeAlias = Annotated[
    Literal["auto", "off", "probe"],
    _machine_option(
        help="auto: use the GPUs of this machine; probe: detect them again; off: ignore them."
    ),
]
MemoryOpt: TypeAlias = Annotated[
    str,
    _machine_option(metavar="SIZE", help="Assume a machine with this much memory: 8GB."),
]
GpuMemoryOpt: TypeAlias = Annotated[
    str,
    _machine_option(
        metavar="SIZE", help="Assume a GPU with this much memory: 24GB; two GPUs: 24GB,24GB."
    ),
]
WorkerMemoryOpt: TypeAlias = Annotated[
    str,
    _machine_option(
        metavar="SIZE", help="Assume workers with this much memory: 16GB; two of them: 16GB,8GB."
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


def parse_memory(text: str, example: str) -> int:
    """Return the bytes that `text` ("8GB") gives to a device.

    Raises UsageError for text that is no size of a memory, with `example`, an option, as the hint.
    """
    nbytes = parse_size(text)
    if not _MIN_MEMORY_BYTES <= nbytes < _MAX_MEMORY_BYTES:
        raise UsageError(f"{text!r} is not a valid memory size (0.25 GiB to 1 EiB)", hint=example)
    return nbytes


def parse_memories(text: str, example: str) -> tuple[int, ...]:
    """Return the bytes of several devices: "24GB,24GB"; "" stands for none."""
    return tuple(parse_memory(size, example) for size in text.split(",")) if text else ()


def refuse_ignored(origins: Mapping[str, Origin], *, matrix: bool, measure: bool) -> None:
    """Raise UsageError for an option or MODEL of this call that would be ignored."""
    used = _MATRIX if matrix else _MEASURE if measure else _OVERVIEW
    for name, origin in origins.items():
        if name in used or not origin.is_of_call:
            continue  # the environment, the config file and presets hold options of other calls too
        if not matrix and not measure:
            raise UsageError(f"{origin} needs a MODEL", hint=f"g4 fit MODEL {origin}")
        option = "--matrix" if matrix else "--measure"
        what = "a MODEL" if origin.source == "argument" else origin
        raise UsageError(f"{option} cannot be used with {what}", hint=f"g4 fit {option}")
