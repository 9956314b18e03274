"""`g4 quantize`: write a GGUF file with fewer bits per weight."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from g4cli.cli.completion import complete_pulled, complete_type
from g4cli.cli.options.common import ForceOpt, JsonOpt, QuietOpt, check_threads
from g4cli.cli.output import Output, make_output

if TYPE_CHECKING:
    from g4cli.quant.file import Quantized

# fmt: off
_Source: TypeAlias = Annotated[
    str, typer.Argument(help="GGUF file or pulled model to quantize, preferably BF16.",
                        metavar="FILE", autocompletion=complete_pulled)]
_Target: TypeAlias = Annotated[
    Path | None, typer.Argument(help="GGUF file to write. Default: next to FILE.",
                                metavar="OUT", show_default=False)]
_Type: TypeAlias = Annotated[
    str, typer.Option("--type", "-t", metavar="TYPE", autocompletion=complete_type,
                      help="q4_0, sfp8, bf16, q8_0, q6_k, q5_k_m, q4_k_m, ...")]
_Pure: TypeAlias = Annotated[bool, typer.Option("--pure", help="Use one type for all matrices.")]
_TensorType: TypeAlias = Annotated[
    list[str] | None, typer.Option(metavar="PATTERN=TYPE",
                                   help="Type of the tensors that match. Repeatable.")]
_Imatrix: TypeAlias = Annotated[
    str | None, typer.Option(metavar="FILE|auto", help="Importance matrix (GGUF or .dat); auto: "
                                                       "make one, see g4 imatrix.")]
_KeepPle: TypeAlias = Annotated[
    str | None, typer.Option(help="Type of the per-layer embedding table.", metavar="TYPE")]
_Container: TypeAlias = Annotated[
    str | None, typer.Option(metavar="TYPE", help="How to store SFP8: archive (1 byte per weight), "
                                                  "bf16 (exact) or q8_0.")]
_Encoder: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="SFP8 rounding: nearest or gemma.cpp.")]
_Requantize: TypeAlias = Annotated[
    bool, typer.Option("--allow-requantize", help="Quantize a file that is already quantized.")]
_DryRun: TypeAlias = Annotated[
    bool, typer.Option("--dry-run", help="Show the plan and sizes; write nothing.")]
_Report: TypeAlias = Annotated[
    bool, typer.Option("--report", help="Measure the quantization error of each tensor.")]
_Threads: TypeAlias = Annotated[
    int | None,
    typer.Option(help="Number of threads. Default: all cores.", min=1, callback=check_threads)]
# fmt: on


def quantize(
    source: _Source,
    target: _Target = None,
    *,
    type_name: _Type = "q4_0",
    pure: _Pure = False,
    tensor_type: _TensorType = None,
    imatrix: _Imatrix = None,
    keep_ple: _KeepPle = None,
    container: _Container = None,
    encoder: _Encoder = None,
    allow_requantize: _Requantize = False,
    dry_run: _DryRun = False,
    report: _Report = False,
    force: ForceOpt = False,
    threads: _Threads = None,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Quantize a GGUF file to Q4_0, SFP8, Q8_0 or another type, byte for byte as llama.cpp does.

    SFP8 is Google's format with one byte per weight, for the values that
    gemma.cpp computes with. Q8_0 is closer to the original.

    \b
    Examples:
      g4 quantize model-bf16.gguf --type q4_0
      g4 quantize m-bf16.gguf out.gguf -t q4_k_m --tensor-type 'ffn_down=q6_k'
      g4 quantize e2b:bf16 --type q3_k_m --imatrix auto
      g4 quantize e2b:bf16 --type q8_0 --dry-run
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.quantize import draw_plan
    from g4cli.operations.imatrix import read_importance
    from g4cli.quant.file import check_target, default_target, quantize_file
    from g4cli.quant.options import recipe_from
    from g4cli.quant.plan import plan_file
    from g4cli.store.models import find_model_file

    recipe = recipe_from(
        type_name,
        pure=pure,
        tensor_types=tensor_type or (),
        keep_ple=keep_ple,
        has_imatrix=imatrix is not None,
        container=container,
        sfp8_encoder=encoder,
    )
    found = find_model_file(source)
    planned = plan_file(found.path, recipe, allow_requantize=allow_requantize)
    if not dry_run:  # an importance matrix may take hours: what is wrong is said before
        default = default_target(found.path, recipe.type)
        target = target or (Path(default.name) if found.entry else default)
        check_target(found.path, target, force=force)
    importance = read_importance(imatrix, source, out, n_threads=threads or 0, make=not dry_run)
    if dry_run:
        out.result(planned.as_json(), lambda: draw_plan(out, planned), brief=str(planned.nbytes))
        return
    job = partial(
        quantize_file,
        found.path,
        target,
        recipe=recipe,
        force=force,
        allow_requantize=allow_requantize,
        imatrix=importance,
        threads=threads,
        source_sha256=found.sha256,
        hashed=json,
    )
    _run_and_report(out, found.path, job, report=report)


def _run_and_report(out: Output, source: Path, job: partial[Quantized], *, report: bool) -> None:
    from g4cli.cli.views.quantize import draw_diff, draw_result
    from g4cli.quant.metrics import diff_files

    with out.progress(f"quantize {source.name}") as progress:
        done = job(progress=progress)
    data = done.as_json()
    if report:
        with out.progress("measure the error", unit="steps") as progress:
            diff = diff_files(source, done.path, progress=progress)
        data["loss"] = diff.as_json()
    out.result(data, lambda: draw_result(out, done), brief=str(done.path))
    if report:
        draw_diff(out, diff)
