"""`g4 worker`: offer this machine's memory and processors to a model on another machine."""

from __future__ import annotations

from typing import Annotated

import typer

from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.options.engine import DEFAULT_WORKER_PORT, ThreadsOpt
from g4cli.cli.options.serve import PortOpt
from g4cli.cli.output import make_output


def worker(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="IPv4 address to listen at.")
    ] = "127.0.0.1",
    port: PortOpt = DEFAULT_WORKER_PORT,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Device to offer, by its name in llama.cpp: CPU, CUDA0. Default: all GPUs, or the "
            "CPU.",
        ),
    ] = None,
    threads: ThreadsOpt = 0,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache",
            help="Keep large matrices on the disk: a model is sent once, then found there.",
        ),
    ] = False,
    insecure_network: Annotated[
        bool,
        typer.Option(
            "--insecure-network",
            help="Listen at an address of the network, where anybody may take this machine over.",
        ),
    ] = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Let a model on another machine use this one: its layers are divided between both.

    The other machine runs "g4 chat MODEL --rpc HOST:PORT" (or serve, bench, eval), with the same
    version of g4, and has the model's file. A worker serves one client at a time. It knows neither
    passwords nor encryption, so only programs of this machine reach it: others come through a
    tunnel, which --rpc ssh://USER@HOST opens. Ctrl-C stops it.

    \b
    Examples:
      g4 worker
      g4 worker --port 0 --json
      g4 worker --device CPU --threads 4 --cache
      g4 worker --host 192.168.1.20 --insecure-network
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.worker import describe_event, show_worker
    from g4cli.runtime.rpc.server import (
        ServerOptions,
        WorkerServer,
        make_cache_folder,
        open_listener,
        require_private_address,
    )

    require_private_address(host, insecure_network=insecure_network)
    folder = make_cache_folder() if cache else None
    with WorkerServer(
        open_listener(host, port),
        lambda event, detail: out.say(describe_event(event, detail)),
        ServerOptions(device, threads, folder),
    ) as server:
        show_worker(out, server, insecure_network=insecure_network)
        server.serve_until_stopped()
