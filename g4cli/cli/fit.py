"""g4 fit: does it fit, what takes how much, and what would fit instead."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from g4cli.cli.options import JsonOpt, QuietOpt
from g4cli.cli.output import output_for

EXIT_DOES_NOT_FIT = 4
ModelOrNone = Annotated[
    str,
    typer.Argument(help="A model (e2b, 31b:q8_0, tiny) or the path of a GGUF.", metavar="MODEL"),
]
CtxOpt = Annotated[str, typer.Option("--ctx", "-c", help="Tokens of context: 8192, 32k, or max.")]


def fit(
    model: ModelOrNone = "",
    ctx: CtxOpt = "",
    kv_type: Annotated[str, typer.Option(help="Type of the KV cache: f16, q8_0, q4_0.")] = "f16",
    ubatch: Annotated[int, typer.Option(help="Tokens that are computed together.")] = 512,
    sequences: Annotated[int, typer.Option(help="Chats at once.")] = 1,
    flash_attn: Annotated[bool, typer.Option(help="Attention without its scores in memory.")] = True,
    swa_full: Annotated[bool, typer.Option("--swa-full", help="Full-length sliding layers.")] = False,
    mmap: Annotated[bool, typer.Option(help="Map the file instead of reading it.")] = True,
    lazy_ple: Annotated[
        Literal["auto", "on", "off"], typer.Option(help="Per-layer embeddings stay on disk.")
    ] = "auto",
    mmproj: Annotated[
        Path | None, typer.Option(help="An encoder of images and sounds beside it.", show_default=False)
    ] = None,
    image_tokens: Annotated[int, typer.Option(help="The most positions of an image.")] = 1120,
    gpu: Annotated[
        Literal["auto", "off", "probe"], typer.Option(help="auto: the GPUs last seen; probe: look again.")
    ] = "auto",
    verify: Annotated[bool, typer.Option("--verify", help="Ask llama.cpp itself, beside it.")] = False,
    matrix: Annotated[bool, typer.Option("--matrix", help="All models by all types.")] = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Tell whether a model fits this machine, term by term, before anything is downloaded.

    Leaves with 0 if it fits and with 4 if it does not; the answer is printed either way. Nothing is loaded
    and no network is used.

    \b
    Examples:
      g4 fit e2b
      g4 fit 31b:q4_0 --ctx max --kv-type q8_0
      g4 fit model.gguf --ctx 32k --verify
      g4 fit --matrix
    """
    out = output_for(as_json=json, quiet=quiet)
    from dataclasses import replace

    from g4cli.cli import render_fit as draw
    from g4cli.cli.fit_types import advice_for, matrix_rows
    from g4cli.cli.subjects import find_subject, memories_of, run_options, verified, with_encoder
    from g4cli.core.errors import UsageError
    from g4cli.core.units import parse_count
    from g4cli.estimate import LIBRARY, check
    from g4cli.fit import report
    from g4cli.host import engine_version, probe, refresh_gpus

    if gpu == "probe":
        refresh_gpus()
    host = probe()
    memories = memories_of(host, with_gpus=gpu != "off")
    if matrix:
        rows = matrix_rows(host, memories, kv_type)
        out.result(rows, lambda: draw.render_matrix(out, rows, memories))
        return
    if not model:
        raise UsageError("which model?", hint="g4 fit e2b, or g4 fit --matrix for all of them")
    subject = find_subject(model)
    options = replace(
        run_options(host, subject, kv_type=kv_type, mmap=mmap, lazy_ple=lazy_ple),
        n_ctx=parse_count(ctx) if ctx not in ("", "max") else subject.shape.n_ctx_train,
        n_ubatch=ubatch,
        n_batch=max(2048, ubatch),
        n_seq=sequences,
        flash_attn=flash_attn,
        swa_full=swa_full,
    )
    if mmproj:
        options = with_encoder(options, subject.shape, mmproj, image_tokens)
    check(subject.shape, options)
    found = report(subject.shape, subject.tensors, options, memories, choose=ctx)
    advice = advice_for(subject, options, memories, host, found.options.n_ctx)
    proof = verified(subject, found.options) if verify else None
    installed = engine_version()
    if installed not in (None, LIBRARY):
        out.warn(f"these figures were proved with llama-cpp-python {LIBRARY}; {installed} is installed")
    answer = draw.Answer(subject, host, memories, found, advice, proof, installed or "")
    fits = "fits" if found.verdict.fits else "does not fit"
    out.result(
        draw.fit_data(answer), lambda: draw.render_fit(out, answer), brief=f"{fits}: {found.verdict.reason}"
    )
    if not found.verdict.fits:
        raise typer.Exit(EXIT_DOES_NOT_FIT)
