"""`g4 imatrix`: make an importance matrix for `g4 quantize`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

import g4cli.cli.options.engine as e
from g4cli.cli.options.common import ForceOpt, JsonOpt, OutOpt, QuietOpt
from g4cli.cli.output import make_output

# The options that say how files are added up; all others need a model.
_OF_SUMS: Final = ("in_file", "target", "force", "json", "quiet")


def imatrix(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="Model to measure, preferably BF16: its name, or the path of a GGUF file.",
            metavar="[MODEL]",
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            help="Conversations (.jsonl with messages) or plain text. Default: g4's own text.",
        ),
    ] = None,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="Use the text as it is, as llama-imatrix does: without a chat template.",
        ),
    ] = False,
    target: OutOpt = None,
    ctx: Annotated[int, typer.Option("--ctx", "-c", help="Tokens of a chunk.")] = 512,
    chunks: Annotated[
        int, typer.Option("--chunks", help="Use only the first N chunks; 0: all.", min=0)
    ] = 0,
    in_file: Annotated[
        list[Path] | None,
        typer.Option("--in-file", help="Importance matrix (GGUF) to add to. Repeatable."),
    ] = None,
    threads: e.ThreadsOpt = 0,
    gpu_layers: e.GpuLayersOpt = "auto",
    device: e.DeviceOpt = None,
    cpu_moe: e.CpuMoeOpt = False,
    force: ForceOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Make an importance matrix: which columns of each matrix matter most on a text.

    Quantizing with it (g4 quantize --imatrix) puts the error where it hurts
    least, which matters below 4 bits. The text is formatted with Gemma's chat
    template. The file has the format of llama-imatrix; with --raw it has the
    same bytes. An interrupted run continues when the same command is given
    again. Without MODEL, files are added up.

    \b
    Examples:
      g4 imatrix e2b:bf16
      g4 imatrix e2b:bf16 --text chats.jsonl --chunks 100 -o chats.gguf
      g4 imatrix model.gguf --text wiki.txt --raw
      g4 imatrix --in-file a.gguf --in-file b.gguf -o both.gguf
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.imatrix import draw_imatrix, imatrix_to_json
    from g4cli.core.errors import UsageError
    from g4cli.operations.imatrix import (
        ImatrixRequest,
        make_importance_matrix,
        merge_importance_matrices,
    )

    in_files = tuple(in_file or ())
    if model is None:
        for option in context.command.params:
            source = context.get_parameter_source(option.name or "")
            if option.name not in _OF_SUMS and source and source.name == "COMMANDLINE":
                raise UsageError(f"{option.opts[0]} needs a MODEL", hint="g4 imatrix MODEL")
        if len(in_files) < 2:
            raise UsageError(
                "name a model, or two or more files with --in-file to add them up",
                hint="g4 imatrix MODEL, or g4 imatrix --in-file A --in-file B -o OUT",
            )
        made = merge_importance_matrices(in_files, target, force=force)
    else:
        request = ImatrixRequest(
            model=model,
            text=text,
            raw=raw,
            out=target,
            n_ctx=ctx,
            n_chunks=chunks,
            in_files=in_files,
            n_threads=threads,
            gpu_layers=gpu_layers,
            device=device,
            cpu_moe=cpu_moe,
            force=force,
        )
        made = make_importance_matrix(request, out)
    out.result(imatrix_to_json(made), lambda: draw_imatrix(out, made), brief=str(made.path))
