"""`g4 serve`: models for other programs, over HTTP."""

from __future__ import annotations

import sys

import g4cli.cli.options.chat as o
import g4cli.cli.options.engine as e
import g4cli.cli.options.serve as s
from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.output import make_output


def serve(
    models: s.ModelsArg = None,
    host: s.HostOpt = "127.0.0.1",
    port: s.PortOpt = 8080,
    api_key: s.ApiKeyOpt = None,
    api_key_file: s.ApiKeyFileOpt = None,
    no_auth: s.NoAuthOpt = False,
    cors_origin: s.CorsOpt = None,
    allow_host: s.AllowHostOpt = None,
    max_body: s.MaxBodyOpt = "64M",
    alias: s.AliasOpt = None,
    keep_alive: s.KeepAliveOpt = "30m",
    max_models: s.MaxModelsOpt = 0,
    parallel: s.ParallelOpt = "auto",
    queue: s.QueueOpt = 64,
    mmproj: e.MmprojOpt = None,
    image_tokens: e.ImageTokensOpt = None,
    temp: o.TempOpt = None,
    top_p: o.TopPOpt = None,
    top_k: o.TopKOpt = None,
    min_p: o.MinPOpt = None,
    repeat_penalty: o.RepeatPenaltyOpt = None,
    seed: o.SeedOpt = None,
    max_tokens: o.MaxTokensOpt = 0,
    no_loop_stop: o.NoLoopStopOpt = False,
    on_loop: s.OnLoopOpt = "stop",
    ctx: e.CtxOpt = "",
    kv_type: e.KvTypeOpt = "f16",
    threads: e.ThreadsOpt = 0,
    gpu_layers: e.GpuLayersOpt = "auto",
    device: e.DeviceOpt = None,
    mmap: e.MmapOpt = True,
    cpu_moe: e.CpuMoeOpt = False,
    rpc: e.RpcOpt = "",
    tensor_split: e.TensorSplitOpt = "",
    draft: e.DraftOpt = "auto",
    state_cache: e.StateCacheOpt = "auto",
    log_format: s.LogFormatOpt = "text",
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Serve models to a page in the browser, and to other programs in the form of OpenAI's API.

    The first MODEL is loaded at once, others when a request names them. Only
    programs of this machine reach the server, unless --host says otherwise;
    then a key is needed. Ctrl-C stops it: running answers get two seconds.

    \b
    Examples:
      g4 serve tiny
      g4 serve e2b --parallel 4 --ctx 16384
      g4 serve
      g4 serve e2b --host 0.0.0.0 --api-key-file keys.txt
      g4 serve tiny --port 0 --json
      g4 serve 31b:q8_0 --rpc 192.168.1.20:50052,192.168.1.21:50052
      curl localhost:8080/v1/chat/completions -d '{"messages": [{"role": "user", "content": "Hi"}]}'
    """
    out = make_output(as_json=json, quiet=quiet)
    from g4cli.cli.views.serve import describe_loaded, show_start
    from g4cli.core.loopback import is_loopback
    from g4cli.core.units import parse_duration, parse_size
    from g4cli.operations.chat.request import ChatRequest
    from g4cli.operations.serving.opening import make_service
    from g4cli.operations.serving.options import ServeOptions, parse_parallel
    from g4cli.server.guard import GuardOptions
    from g4cli.server.keys import read_keys, require_key
    from g4cli.server.logs import LogReporter, log_reply, start_log
    from g4cli.server.run import make_url, open_port, serve_until_stopped

    chat = ChatRequest(
        mmproj=mmproj, image_tokens=image_tokens, temp=temp, top_p=top_p, top_k=top_k, min_p=min_p,
        repeat_penalty=repeat_penalty, seed=seed, max_tokens=max_tokens,
        on_loop="ignore" if no_loop_stop else on_loop, ctx=ctx, kv_type=kv_type, threads=threads,
        gpu_layers=gpu_layers, device=device, mmap=mmap, cpu_moe=cpu_moe, draft=draft,
        state_cache=state_cache, workers=e.make_worker_options(rpc, tensor_split),
    )  # fmt: skip
    options = ServeOptions(
        models=models or (),
        aliases=alias or (),
        chat=chat,
        parallel=parse_parallel(parallel),
        keep_alive_s=parse_duration(keep_alive),
        max_models=max_models,
        queue=queue,
    )
    keys = read_keys(api_key or (), api_key_file)
    require_key(host, keys, no_auth=no_auth)
    guard = GuardOptions(
        hosts=(host, *(allow_host or ())),
        origins=tuple(cors_origin or ()),
        keys=keys,
        max_body_bytes=parse_size(max_body),
    )
    start_log(log_format, sys.stderr)
    with open_port(
        host, port
    ) as listener:  # before the models, so that a port in use is told at once
        service = make_service(options, LogReporter(), log_reply)
        show_start(out, make_url(listener), service, has_keys=bool(keys))
        serve_until_stopped(
            service,
            listener,
            guard,
            preload="" if models else None,  # "" loads the first model now, None none
            show_loaded=lambda model: LogReporter().say(describe_loaded(model)),
            # The whole network would read saved conversations: the page keeps its own in memory.
            private=not keys and not is_loopback(host),
        )
