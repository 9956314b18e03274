"""g4 bench: how fast is it, in llama-bench's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

import g4cli.cli.options.chat as o
from g4cli.cli.options.common import JsonOpt, ModelArg, QuietOpt
from g4cli.cli.output import Output, output_for

if TYPE_CHECKING:
    from pathlib import Path

    from g4cli.runtime.measure.reports import BenchReport


def bench(
    model: ModelArg,
    n_prompt: Annotated[
        int, typer.Option("--n-prompt", "-p", min=0, help="Tokens of the prompt test.")
    ] = 512,
    n_gen: Annotated[
        int, typer.Option("--n-gen", "-n", min=0, help="Tokens of the decode test.")
    ] = 128,
    depth: Annotated[
        str,
        typer.Option(
            "--n-depth", "--depth", "-d", help="Tokens in memory before each test: 0,4096."
        ),
    ] = "0",
    repetitions: Annotated[int, typer.Option("--repetitions", "-r", min=1, max=1000)] = 5,
    no_warmup: Annotated[
        bool, typer.Option("--no-warmup", help="Measure the first run too.")
    ] = False,
    threads: o.ThreadsOpt = 0,
    kv_type: o.KvTypeOpt = "f16",
    gpu_layers: o.GpuLayersOpt = "auto",
    device: o.DeviceOpt = None,
    mmap: o.MmapOpt = True,
    lazy_ple: o.LazyPleOpt = "auto",
    cpu_moe: o.CpuMoeOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Measure prompt and decode speed, load time and peak memory.

    pp512 and tg128 are llama-bench's: random tokens, nothing sampled, mean and
    standard deviation over the repetitions after one that warms up.

    \b
    Examples:
      g4 bench tiny
      g4 bench e2b -r 3 --threads 4
      g4 bench e2b -p 0 -d 0,4096
      g4 bench e2b:q8_0 -p 2048 -n 256 --json
    """
    out = output_for(as_json=json, quiet=quiet)
    from g4cli.core.errors import UsageError
    from g4cli.operations.models import make_model_options, prepare_model
    from g4cli.runtime.measure.client import measure_speed
    from g4cli.runtime.measure.messages import RunBench
    from g4cli.runtime.measure.reports import BenchOptions, parse_depths

    if not n_prompt and not n_gen:
        raise UsageError("nothing to measure", hint="-p 512 or -n 128")
    loadable = prepare_model(model, out)
    options = make_model_options(
        gpu_layers=gpu_layers,
        device=device,
        mmap=mmap,
        lazy_ple=lazy_ple,
        cpu_moe=cpu_moe,
        use_extra_bufts=loadable.use_extra_bufts,
    )
    with out.progress(f"bench {loadable.path.name}", unit="steps") as progress:
        settings = BenchOptions(
            n_prompt,
            n_gen,
            parse_depths(depth),
            repetitions,
            threads,
            kv_type,
            warmup=not no_warmup,
        )
        report = measure_speed(RunBench(loadable.path, options, settings), progress)
    out.result(
        _data(loadable.path, report, kv_type),
        lambda: _render(out, report),
        brief="  ".join(f"{test.name} {test.mean:.2f}" for test in report.tests),
    )


def _data(path: Path, report: BenchReport, kv_type: str) -> dict[str, Any]:
    return {
        "model": str(path),
        "description": report.description,
        "size_bytes": report.size_bytes,
        "n_params": report.n_params,
        "n_threads": report.n_threads,
        "kv_type": kv_type,
        "load_s": round(report.load_s, 3),
        "peak_memory_bytes": report.peak_bytes,
        "tests": [
            {
                "test": test.name,
                "n_tokens": test.n_tokens,
                "n_depth": test.n_depth,
                "tokens_per_s": round(test.mean, 3),
                "stddev": round(test.stddev, 3),
                "samples": [round(sample, 3) for sample in test.samples],
            }
            for test in report.tests
        ],
    }


def _render(out: Output, report: BenchReport) -> None:
    from g4cli.core.units import duration_text, size_text

    rows = [
        (
            report.description,
            size_text(report.size_bytes),
            report.n_threads,
            test.name,
            f"{test.mean:.2f} ± {test.stddev:.2f}",
        )
        for test in report.tests
    ]
    out.table(("model", "size", "threads", "test", "t/s"), rows, right=(1, 2, 4))
    out.line(f"load {duration_text(report.load_s)}, peak memory {size_text(report.peak_bytes)}")
