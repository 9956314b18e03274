"""`g4 fit`: whether a model fits this machine, what needs memory, and what would fit instead."""

from __future__ import annotations

import typer

import g4cli.cli.options.engine as e
import g4cli.cli.options.fit as o
from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.output import make_output
from g4cli.cli.settings import read_origins
from g4cli.core.errors import DoesNotFit
from g4cli.core.units import MORE_LAYERS, parse_gpu_layers


def fit(
    context: typer.Context,
    model: o.FitModelArg = "",
    ctx: e.CtxOpt = "",
    kv_type: e.KvTypeOpt = "f16",
    draft: e.DraftOpt = "auto",
    gpu_layers: e.GpuLayersOpt = "auto",
    mmap: e.MmapOpt = True,
    lazy_ple: e.LazyPleOpt = "auto",
    cpu_moe: e.CpuMoeOpt = False,
    rpc: e.RpcOpt = "",
    tensor_split: e.TensorSplitOpt = "",
    ubatch: o.UbatchOpt = 512,
    sequences: o.SequencesOpt = 1,
    flash_attn: o.FlashAttnOpt = True,
    swa_full: o.SwaFullOpt = False,
    n_cpu_moe: o.NCpuMoeOpt = 0,
    mmproj: o.MmprojOpt = None,
    image_tokens: e.ImageTokensOpt = 1120,
    gpu: o.GpuOpt = "auto",
    memory: o.MemoryOpt = "",
    gpu_memory: o.GpuMemoryOpt = "",
    worker_memory: o.WorkerMemoryOpt = "",
    verify: o.VerifyOpt = False,
    matrix: o.MatrixOpt = False,
    measure: o.MeasureOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Show which models this machine can run, or whether one of them fits.

    Without MODEL: one line for each model with its best type, and the best of them. With MODEL:
    whether it fits, and what needs the memory, before anything is downloaded. Speeds are estimated
    from the rate at which this machine reads weights, which is measured once, and
    again if the machine was busy then.

    Exits with 0 if it fits and with 4 if it does not; the memory it needs is listed in both cases.
    No model is loaded. The network is used for hf:OWNER/REPO, to read the header of the file, and
    for --rpc, to ask workers for their memory.

    \b
    Examples:
      g4 fit
      g4 fit e2b
      g4 fit 31b:q4_0 --ctx max --kv-type q8_0
      g4 fit model.gguf --ctx 32k --verify
      g4 fit 12b --memory 16GB --gpu-memory 8GB
      g4 fit 31b --draft network
      g4 fit 31b:q8_0 --memory 16GB --worker-memory 16GB,16GB
      g4 fit 31b:q8_0 --rpc 192.168.1.20:50052,ssh://me@192.168.1.21
      g4 fit --matrix
      g4 fit --measure   on an idle machine
    """
    out = make_output(as_json=json, quiet=quiet)
    if matrix or measure or not model:
        o.refuse_ignored(read_origins(context), matrix=matrix, measure=measure)
    from g4cli.cli.views.fit import draw_fit, draw_matrix, fit_to_json, summarize_fit
    from g4cli.operations.fit.answer import answer_fit, answer_matrix
    from g4cli.operations.fit.request import FitRequest

    workers = e.make_worker_options(rpc, tensor_split)
    request = FitRequest(
        model=model,
        ctx=o.parse_context(ctx),
        kv_type=kv_type,
        n_ubatch=ubatch,
        n_seq=sequences,
        flash_attn=flash_attn,
        swa_full=swa_full,
        mmap=mmap,
        lazy_ple=lazy_ple,
        mmproj=mmproj,
        image_tokens=image_tokens or 1120,
        gpu=gpu,
        n_gpu_layers=parse_gpu_layers(gpu_layers),
        n_cpu_moe=MORE_LAYERS if cpu_moe else n_cpu_moe,
        draft=draft,
        memory_bytes=o.parse_memory(memory, "--memory 16GB") if memory else None,
        gpu_memory_bytes=o.parse_memories(gpu_memory, "--gpu-memory 24GB"),
        verify=verify,
        measure=measure,
        rpc=workers.addresses,
        worker_memory_bytes=o.parse_memories(worker_memory, "--worker-memory 16GB"),
        tensor_split=workers.tensor_split,
    )
    if matrix:
        every = answer_matrix(request)
        fitting = [f"{row['model']}:{row['type']}" for row in every.rows if row["fits"]]
        out.result(every.rows, lambda: draw_matrix(out, every), brief=fitting)
        return
    if not model:
        from g4cli.cli.views.fit_overview import draw_overview
        from g4cli.operations.fit.overview import answer_overview

        overview = answer_overview(request, out)
        best = overview.best.label if overview.best else ""
        out.result(overview.as_json(), lambda: draw_overview(out, overview), brief=best)
        if not overview.best:
            raise typer.Exit(DoesNotFit.exit_code)
        return
    answer = answer_fit(request, out)
    out.result(fit_to_json(answer), lambda: draw_fit(out, answer), brief=summarize_fit(answer))
    if not answer.plan.verdict.fits:
        raise typer.Exit(DoesNotFit.exit_code)
