"""`g4 quantize`: write a GGUF file with fewer bits per weight."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import g4cli.cli.options.quantize as o
from g4cli.cli.options.common import ForceOpt, JsonOpt, QuietOpt
from g4cli.cli.output import Output, make_output

if TYPE_CHECKING:
    from g4cli.quant.file import Quantized


def quantize(
    source: o.SourceArg,
    target: o.TargetArg = None,
    *,
    type_name: o.TypeOpt = "q4_0",
    pure: o.PureOpt = False,
    tensor_type: o.TensorTypeOpt = None,
    imatrix: o.ImatrixOpt = None,
    keep_ple: o.KeepPleOpt = None,
    container: o.ContainerOpt = None,
    encoder: o.EncoderOpt = None,
    allow_requantize: o.RequantizeOpt = False,
    dry_run: o.DryRunOpt = False,
    report: o.ReportOpt = False,
    force: ForceOpt = False,
    threads: o.ThreadsOpt = None,
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
    from g4cli.core.file_kind import kind_of, kind_text
    from g4cli.core.gguf import read_header
    from g4cli.quant.options import build_recipe
    from g4cli.quant.plan import plan_file
    from g4cli.store.models import find_model_file

    recipe = build_recipe(
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
    header = read_header(found.path)
    if kind_of(header) == "other-model":
        what = f"{found.path} is {kind_text(header)}"
        out.warn(f"{what}: its tensors may get other types than with llama-quantize")
    if dry_run:
        if imatrix is not None:
            from g4cli.operations.imatrix import read_importance
            from g4cli.quant.imatrix import check_fits

            if importance := read_importance(imatrix, source, out, make=False):
                check_fits(importance, {c.name: c.shape for c in planned.choices})
        out.result(planned.as_json(), lambda: draw_plan(out, planned), brief=str(planned.nbytes))
        return
    from g4cli.operations.imatrix import read_importance
    from g4cli.quant.file import check_target, default_target, quantize_file

    target = target or found.place_output(default_target(found.path, recipe.type))
    check_target(found.path, target, force=force)  # making an importance matrix may take hours
    importance = read_importance(imatrix, source, out, n_threads=threads or 0)
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
    """Run quantize_file, which `job` is but for its progress, and show its result.

    With `report` both files are read again to measure the quantization error.
    """
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
