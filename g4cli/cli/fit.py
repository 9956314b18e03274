"""g4 fit: does it fit, and what takes how much."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from g4cli.cli.options import JsonOpt, ModelArg, QuietOpt
from g4cli.cli.output import output_for

EXIT_DOES_NOT_FIT = 4


def fit(
    model: ModelArg,
    ctx: Annotated[
        str, typer.Option("--ctx", "-c", help="Tokens of context: 8192, 32k, max (the largest that fits).")
    ] = "",
    kv_type: Annotated[str, typer.Option("--kv-type", help="Type of the KV cache: f16, q8_0, q4_0.")] = "f16",
    ubatch: Annotated[int, typer.Option("--ubatch", help="Tokens that are computed together.")] = 512,
    sequences: Annotated[int, typer.Option("--sequences", help="Chats at once.")] = 1,
    flash_attn: Annotated[bool, typer.Option(help="Compute attention without its scores in memory.")] = True,
    swa_full: Annotated[
        bool, typer.Option("--swa-full", help="Keep the whole context in sliding layers too.")
    ] = False,
    mmap: Annotated[bool, typer.Option(help="Map the file instead of reading it.")] = True,
    lazy_ple: Annotated[
        Literal["auto", "on", "off"], typer.Option(help="Per-layer embeddings stay on disk.")
    ] = "auto",
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Tell whether a model fits this machine, term by term, before anything is downloaded.

    Leaves with 0 if it fits and with 4 if it does not; the answer is printed either way.

    \b
    Examples:
      g4 fit e2b
      g4 fit 31b:q4_0 --ctx max --kv-type q8_0
      g4 fit model.gguf --ctx 32k --json
    """
    out = output_for(as_json=json, quiet=quiet)
    from dataclasses import replace

    from g4cli.cli.render_fit import fit_data, render_fit
    from g4cli.cli.subjects import find_subject, memories_of, run_options
    from g4cli.core.units import parse_count
    from g4cli.estimate import check
    from g4cli.fit import report
    from g4cli.host import probe

    subject, host = find_subject(model), probe()
    memories = memories_of(host)
    n_ctx = parse_count(ctx) if ctx not in ("", "max") else subject.shape.n_ctx_train
    options = replace(
        run_options(host, subject, kv_type=kv_type, mmap=mmap, lazy_ple=lazy_ple),
        n_ctx=n_ctx,
        n_ubatch=ubatch,
        n_batch=max(2048, ubatch),
        n_seq=sequences,
        flash_attn=flash_attn,
        swa_full=swa_full,
    )
    check(subject.shape, options)
    found = report(subject.shape, subject.tensors, options, memories, choose=ctx)
    data = fit_data(subject, host, found)
    out.result(
        data,
        lambda: render_fit(out, subject, host, found),
        brief=f"{'fits' if found.verdict.fits else 'does not fit'}: {found.verdict.reason}",
    )
    if not found.verdict.fits:
        raise typer.Exit(EXIT_DOES_NOT_FIT)
