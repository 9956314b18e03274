"""The options of `g4 fit`, in the panels of its help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer

_RUN: Final = "What runs"
_DETAILS: Final = "Details of the run"
_WHERE: Final = "Where it runs"

ModelOrNone: TypeAlias = Annotated[
    str,
    typer.Argument(help="A model (e2b, 31b:q8_0), a GGUF, or hf:OWNER/REPO.", metavar="MODEL"),
]
CtxOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--ctx", "-c", metavar="N", help="Tokens of context: 8192, 32k, max.", rich_help_panel=_RUN
    ),
]
KvOpt: TypeAlias = Annotated[
    str, typer.Option(metavar="TYPE", help="KV cache: f16, q8_0, q4_0.", rich_help_panel=_RUN)
]
DraftOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="WAY",
        help="What guesses ahead: auto, off, lookup, network (the published one), or a FILE.",
        rich_help_panel=_RUN,
    ),
]
MmprojOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="An encoder of images and sounds.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
ImageOpt: TypeAlias = Annotated[
    int, typer.Option(help="The most positions of an image.", rich_help_panel=_RUN)
]
UbatchOpt: TypeAlias = Annotated[
    int, typer.Option(help="Tokens that are computed together.", rich_help_panel=_DETAILS)
]
SequencesOpt: TypeAlias = Annotated[
    int, typer.Option(help="Chats at once.", rich_help_panel=_DETAILS)
]
FlashOpt: TypeAlias = Annotated[
    bool, typer.Option(help="Attention without its scores in memory.", rich_help_panel=_DETAILS)
]
SwaOpt: TypeAlias = Annotated[
    bool, typer.Option("--swa-full", help="Full-length sliding layers.", rich_help_panel=_DETAILS)
]
MmapOpt: TypeAlias = Annotated[
    bool, typer.Option(help="Map the file instead of reading it.", rich_help_panel=_DETAILS)
]
LazyOpt: TypeAlias = Annotated[
    Literal["auto", "on", "off"],
    typer.Option(help="Per-layer embeddings stay on the disk.", rich_help_panel=_DETAILS),
]
GpuOpt: TypeAlias = Annotated[
    Literal["auto", "off", "probe"],
    typer.Option(help="auto: the GPUs last seen; probe: look again.", rich_help_panel=_WHERE),
]
LayersOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="N", help="Of the last layers on the GPUs; auto: what fits.", rich_help_panel=_WHERE
    ),
]
MoeOpt: TypeAlias = Annotated[
    int,
    typer.Option(help="Experts of that many first layers stay on the CPU.", rich_help_panel=_WHERE),
]
MemoryOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Another machine's memory: 8GB.",
        show_default=False,
        rich_help_panel=_WHERE,
    ),
]
GpuMemoryOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="SIZE",
        help="Its GPU's: 24GB, or 24GB,24GB.",
        show_default=False,
        rich_help_panel=_WHERE,
    ),
]
VerifyOpt: TypeAlias = Annotated[
    bool, typer.Option("--verify", help="Ask llama.cpp itself, beside it.")
]
MatrixOpt: TypeAlias = Annotated[bool, typer.Option("--matrix", help="All models by all types.")]
