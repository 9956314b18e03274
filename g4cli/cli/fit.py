"""g4 fit: does it fit, what takes how much, and what would fit instead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from g4cli.cli.options import JsonOpt, QuietOpt
from g4cli.cli.output import output_for

ModelOrNone = Annotated[
    str,
    typer.Argument(help="A model (e2b, 31b:q8_0), a GGUF, or hf:OWNER/REPO.", metavar="MODEL"),
]
CtxOpt = Annotated[str, typer.Option("--ctx", "-c", help="Tokens of context: 8192, 32k, or max.")]
KvOpt = Annotated[str, typer.Option(help="Type of the KV cache: f16, q8_0, q4_0.")]
UbatchOpt = Annotated[int, typer.Option(help="Tokens that are computed together.")]
SequencesOpt = Annotated[int, typer.Option(help="Chats at once.")]
FlashOpt = Annotated[bool, typer.Option(help="Attention without its scores in memory.")]
SwaOpt = Annotated[bool, typer.Option("--swa-full", help="Full-length sliding layers.")]
MmapOpt = Annotated[bool, typer.Option(help="Map the file instead of reading it.")]
LazyOpt = Annotated[Literal["auto", "on", "off"], typer.Option(help="Per-layer embeddings stay on disk.")]
MmprojOpt = Annotated[
    Path | None, typer.Option(help="An encoder of images and sounds beside it.", show_default=False)
]
ImageOpt = Annotated[int, typer.Option(help="The most positions of an image.")]
GpuOpt = Annotated[
    Literal["auto", "off", "probe"], typer.Option(help="auto: the GPUs last seen; probe: look again.")
]
LayersOpt = Annotated[str, typer.Option(help="auto: as many as fit; or a number of the last layers.")]
MoeOpt = Annotated[int, typer.Option(help="Experts of that many first layers stay on the CPU.")]
DraftOpt = Annotated[
    str,
    typer.Option(
        metavar="auto|off|lookup|network|FILE",
        help="What guesses tokens ahead, as in chat; network: the published one.",
    ),
]
MemoryOpt = Annotated[
    str, typer.Option(help="Answer for another machine: its memory in all, 8GB.", show_default=False)
]
GpuMemoryOpt = Annotated[str, typer.Option(help="Its GPUs' memory: 24GB, or 24GB,24GB.", show_default=False)]
VerifyOpt = Annotated[bool, typer.Option("--verify", help="Ask llama.cpp itself, beside it.")]
MatrixOpt = Annotated[bool, typer.Option("--matrix", help="All models by all types.")]


def fit(
    model: ModelOrNone = "",
    ctx: CtxOpt = "",
    kv_type: KvOpt = "f16",
    ubatch: UbatchOpt = 512,
    sequences: SequencesOpt = 1,
    flash_attn: FlashOpt = True,
    swa_full: SwaOpt = False,
    mmap: MmapOpt = True,
    lazy_ple: LazyOpt = "auto",
    mmproj: MmprojOpt = None,
    image_tokens: ImageOpt = 1120,
    gpu: GpuOpt = "auto",
    gpu_layers: LayersOpt = "auto",
    cpu_moe: MoeOpt = 0,
    draft: DraftOpt = "auto",
    memory: MemoryOpt = "",
    gpu_memory: GpuMemoryOpt = "",
    verify: VerifyOpt = False,
    matrix: MatrixOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Tell whether a model fits this machine, term by term, before anything is downloaded.

    Leaves with 0 if it fits and with 4 if it does not; the answer is printed either way. Nothing is loaded;
    only hf:OWNER/REPO asks the network, for the header of the file.

    \b
    Examples:
      g4 fit e2b
      g4 fit 31b:q4_0 --ctx max --kv-type q8_0
      g4 fit model.gguf --ctx 32k --verify
      g4 fit 12b --memory 16GB --gpu-memory 8GB
      g4 fit 31b --draft network
      g4 fit --matrix
    """
    out = output_for(as_json=json, quiet=quiet)
    from g4cli.cli import fitting

    request = fitting.Request(
        model, ctx, kv_type, ubatch, sequences, flash_attn, swa_full, mmap, lazy_ple, mmproj, image_tokens,
        gpu, gpu_layers, cpu_moe, draft, memory, gpu_memory, verify,
    )  # fmt: skip
    code = fitting.show_matrix(out, request) if matrix else fitting.show_fit(out, request)
    if code:
        raise typer.Exit(code)
