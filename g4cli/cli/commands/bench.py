"""`g4 bench`: measure a model's speed in the terms of llama-bench."""

from __future__ import annotations

from typing import Annotated

import typer

import g4cli.cli.options.engine as e
from g4cli.cli.options.common import JsonOpt, ModelArg, QuietOpt
from g4cli.cli.output import make_output


def bench(
    model: ModelArg,
    n_prompt: Annotated[
        int,
        typer.Option(
            "--n-prompt",
            "-p",
            min=0,
            help="Tokens of the prompt processing test; 0: no such test.",
        ),
    ] = 512,
    n_gen: Annotated[
        int,
        typer.Option(
            "--n-gen",
            "-n",
            min=0,
            help="Tokens of the decoding test; 0: no such test.",
        ),
    ] = 128,
    depth: Annotated[
        str,
        typer.Option(
            "--n-depth",
            "--depth",
            "-d",
            metavar="N,N",
            help="Tokens in the context before each test, as a list: 0,4096.",
        ),
    ] = "0",
    repetitions: Annotated[
        int, typer.Option("--repetitions", "-r", min=1, max=1000, help="Runs of each test.")
    ] = 5,
    no_warmup: Annotated[
        bool, typer.Option("--no-warmup", help="Do not warm up before measuring.")
    ] = False,
    threads: e.ThreadsOpt = 0,
    kv_type: e.KvTypeOpt = "f16",
    gpu_layers: e.GpuLayersOpt = "auto",
    device: e.DeviceOpt = None,
    mmap: e.MmapOpt = True,
    lazy_ple: e.LazyPleOpt = "auto",
    cpu_moe: e.CpuMoeOpt = False,
    rpc: e.RpcOpt = "",
    tensor_split: e.TensorSplitOpt = "",
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Measure the speed of prompt processing and decoding, load time and peak memory.

    pp512 and tg128 are the tests of llama-bench: random tokens, no sampling,
    mean and standard deviation over the repetitions after one warm-up.

    \b
    Examples:
      g4 bench tiny
      g4 bench e2b -r 3 --threads 4
      g4 bench e2b -p 0 -d 0,4096
      g4 bench e2b:q8_0 -p 2048 -n 256 --json
      g4 bench 31b:q4_0 --rpc 192.168.1.20:50052
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.bench import bench_to_json, draw_bench
    from g4cli.host import find_gpus
    from g4cli.operations.fit.speed import remember_bench
    from g4cli.operations.models import make_model_options, prepare_model
    from g4cli.operations.workers import place_layers_of_run
    from g4cli.runtime.measure.client import run_measurement
    from g4cli.runtime.measure.messages import RunBench
    from g4cli.runtime.measure.reports import BenchOptions, check_bench_options, parse_depths

    depths = parse_depths(depth)
    tests = BenchOptions(
        n_prompt, n_gen, depths, repetitions, threads, kv_type, warmup=not no_warmup
    )
    check_bench_options(tests)
    workers = e.make_worker_options(rpc, tensor_split)
    loadable = prepare_model(model, out)
    options = make_model_options(
        loadable,
        gpu_layers=gpu_layers,
        device=device,
        mmap=mmap,
        lazy_ple=lazy_ple,
        cpu_moe=cpu_moe,
        workers=workers,
    )
    options = place_layers_of_run(
        loadable, options, workers, n_ctx=tests.n_ctx, kv_type=kv_type, reporter=out
    )
    with out.progress(f"bench {loadable.path.name}", unit="steps") as progress:
        report = run_measurement(RunBench(loadable.path, options, tests), progress)
    # For `g4 fit`, which estimates speeds on all cores of the CPU.
    if not threads and not workers and (gpu_layers == "0" or not find_gpus()):
        remember_bench(model, loadable.path, report.find_decode_speed())
    out.result(
        bench_to_json(loadable.path, report, kv_type),
        lambda: draw_bench(out, report),
        brief="  ".join(f"{test.name} {test.mean:.2f}" for test in report.tests),
    )
