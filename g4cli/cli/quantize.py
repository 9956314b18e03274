"""g4 quantize: a GGUF into a smaller one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from g4cli.cli.options import ForceOpt, JsonOpt, QuietOpt
from g4cli.cli.output import output_for


def quantize(
    source: Annotated[Path, typer.Argument(help="The GGUF to read, best in BF16.", metavar="FILE")],
    target: Annotated[
        Path | None,
        typer.Argument(
            help="The GGUF to write; by default beside FILE.", metavar="[OUT]", show_default=False
        ),
    ] = None,
    *,
    type_name: Annotated[
        str, typer.Option("--type", "-t", help="q4_0, sfp8, bf16, q8_0, q6_k, q5_k_m, q4_k_m, ...")
    ] = "q4_0",
    pure: Annotated[bool, typer.Option("--pure", help="One type for all, embeddings too.")] = False,
    tensor_type: Annotated[
        list[str] | None,
        typer.Option(help="PATTERN=TYPE for tensors whose name the pattern matches; repeatable."),
    ] = None,
    imatrix: Annotated[
        Path | None, typer.Option(help="Importance matrix of llama-imatrix, GGUF or .dat.", metavar="FILE")
    ] = None,
    keep_ple: Annotated[
        str | None, typer.Option(help="The type of the per-layer embedding table.", metavar="TYPE")
    ] = None,
    carrier: Annotated[
        str | None,
        typer.Option(help="SFP8 in: archive (1 byte per weight), bf16 (exact, runs everywhere), q8_0."),
    ] = None,
    encoder: Annotated[str | None, typer.Option(help="SFP8 rounding: nearest or gemma.cpp.")] = None,
    allow_requantize: Annotated[
        bool, typer.Option("--allow-requantize", help="Quantise weights that were quantised before.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and sizes; write nothing.")
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Measure the loss afterwards, tensor by tensor.")
    ] = False,
    force: ForceOpt = False,
    threads: Annotated[int | None, typer.Option(help="Threads to use; all cores by default.", min=1)] = None,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Make a smaller GGUF: Q4_0, SFP8, Q8_0 and the rest; weights equal llama.cpp's byte for byte.

    SFP8 is Google's one byte per weight. It is not the better 8 bits: Q8_0 is closer to the original (45 dB
    against 31 dB) at 8.5 bits. Take SFP8 for the values that gemma.cpp computes with.

    \b
    Examples:
      g4 quantize model-bf16.gguf --type q4_0
      g4 quantize model-bf16.gguf small.gguf --type q4_k_m --tensor-type 'ffn_down=q6_k'
      g4 quantize model-bf16.gguf --type q8_0 --dry-run
    """
    out = output_for(as_json=json, quiet=quiet)
    from g4cli.cli.render_quantize import draw_diff, draw_plan, draw_result
    from quant.options import read_importance, recipe_from
    from quant.plan import plan_file

    recipe = recipe_from(
        type_name,
        pure=pure,
        tensor_types=tensor_type or (),
        keep_ple=keep_ple,
        has_imatrix=imatrix is not None,
        carrier=carrier,
        sfp8_encoder=encoder,
    )
    importance = read_importance(imatrix)
    if dry_run:
        planned = plan_file(source, recipe, allow_requantize=allow_requantize)
        out.result(planned.as_json(), lambda: draw_plan(out, planned), brief=str(planned.nbytes))
        return
    from quant.file import quantize_file

    with out.progress(f"{source.name} to {recipe.type}") as progress:
        done = quantize_file(
            source,
            target,
            recipe=recipe,
            progress=progress,
            force=force,
            allow_requantize=allow_requantize,
            imatrix=importance,
            threads=threads,
        )
    data = done.as_json()
    if report:
        from quant.metrics import diff_files

        with out.progress("measuring the loss") as progress:
            diff = diff_files(source, done.path, progress=progress, threads=threads)
        data["loss"] = diff.as_json()
    out.result(data, lambda: draw_result(out, done), brief=str(done.path))
    if report:
        draw_diff(out, diff)
