"""g4 fit: does it fit, what takes how much, and what would fit instead."""

from __future__ import annotations

import typer

import g4cli.cli.options.fit as o
from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.output import output_for


def fit(
    model: o.ModelOrNone = "",
    ctx: o.CtxOpt = "",
    kv_type: o.KvOpt = "f16",
    ubatch: o.UbatchOpt = 512,
    sequences: o.SequencesOpt = 1,
    flash_attn: o.FlashOpt = True,
    swa_full: o.SwaOpt = False,
    mmap: o.MmapOpt = True,
    lazy_ple: o.LazyOpt = "auto",
    mmproj: o.MmprojOpt = None,
    image_tokens: o.ImageOpt = 1120,
    gpu: o.GpuOpt = "auto",
    gpu_layers: o.LayersOpt = "auto",
    cpu_moe: o.MoeOpt = 0,
    draft: o.DraftOpt = "auto",
    memory: o.MemoryOpt = "",
    gpu_memory: o.GpuMemoryOpt = "",
    verify: o.VerifyOpt = False,
    matrix: o.MatrixOpt = False,
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
    from g4cli.operations.fit import answer as fitting

    request = fitting.Request(
        model,
        ctx,
        kv_type,
        ubatch,
        sequences,
        flash_attn,
        swa_full,
        mmap,
        lazy_ple,
        mmproj,
        image_tokens,
        gpu,
        gpu_layers,
        cpu_moe,
        draft,
        memory,
        gpu_memory,
        verify,
    )
    code = fitting.show_matrix(out, request) if matrix else fitting.show_fit(out, request)
    if code:
        raise typer.Exit(code)
