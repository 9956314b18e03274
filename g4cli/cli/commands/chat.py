"""`g4 chat`: converse with a model in the terminal, or ask it one question."""

from __future__ import annotations

import typer

import g4cli.cli.options.chat as o
import g4cli.cli.options.chat_tools as t
import g4cli.cli.options.engine as e
from g4cli.cli.options.common import JsonOpt, ModelArg, QuietOpt
from g4cli.cli.output import make_output
from g4cli.cli.settings import read_origins
from g4cli.core.errors import UsageError


def chat(
    context: typer.Context,
    model: ModelArg = "",
    prompt: o.PromptOpt = None,
    prompts: o.PromptsOpt = None,
    parallel: o.ParallelOpt = "auto",
    image: o.ImageOpt = None,
    audio: o.AudioOpt = None,
    mmproj: e.MmprojOpt = None,
    image_tokens: e.ImageTokensOpt = None,
    system: o.SystemOpt = "",
    think: o.ThinkOpt = "off",
    thoughts: o.ThoughtsOpt = "show",
    tools: t.ToolsOpt = None,
    tool: t.ToolOpt = None,
    mcp: t.McpOpt = None,
    builtin: t.BuiltinOpt = "",
    yes: t.YesToolOpt = None,
    max_tool_rounds: t.ToolRoundsOpt = 10,
    json_schema: o.JsonSchemaOpt = None,
    schema: o.SchemaOpt = "",
    grammar: o.GrammarOpt = None,
    regex: o.RegexOpt = "",
    continue_: o.ContinueOpt = False,
    resume: o.ResumeOpt = None,
    private: o.PrivateOpt = False,
    on_overflow: o.OverflowOpt = "drop",
    temp: o.TempOpt = None,
    top_p: o.TopPOpt = None,
    top_k: o.TopKOpt = None,
    min_p: o.MinPOpt = None,
    repeat_penalty: o.RepeatPenaltyOpt = None,
    seed: o.SeedOpt = None,
    max_tokens: o.MaxTokensOpt = 0,
    stop: o.StopOpt = None,
    no_loop_stop: o.NoLoopStopOpt = False,
    on_loop: o.OnLoopOpt = "stop",
    ctx: e.CtxOpt = "",
    kv_type: e.KvTypeOpt = "f16",
    threads: e.ThreadsOpt = 0,
    gpu_layers: e.GpuLayersOpt = "auto",
    device: e.DeviceOpt = None,
    mmap: e.MmapOpt = True,
    lazy_ple: e.LazyPleOpt = "auto",
    cpu_moe: e.CpuMoeOpt = False,
    rpc: e.RpcOpt = "",
    tensor_split: e.TensorSplitOpt = "",
    expand: e.ExpandOpt = "bf16",
    draft: e.DraftOpt = "auto",
    state_cache: e.StateCacheOpt = "auto",
    output: o.OutputOpt = None,
    extract: o.OnlyCodeOpt = False,
    stream_json: o.StreamJsonOpt = False,
    logprobs: o.LogprobsOpt = None,
    stats: o.StatsOpt = False,
    svg: o.DrawingOpt = None,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Chat with a model, or ask it one question.

    Without MODEL, the model that was pulled last is used. Without --prompt, a
    conversation begins; /help lists its commands. Piped standard input is the
    prompt, or is placed before the text of --prompt.

    Conversations are saved: --continue continues the last one, also with --prompt,
    and "g4 chats" lists them. The default sampling parameters are those in the
    model file, or else Gemma 4's own (temp 1.0, top-p 0.95, top-k 64). Ctrl-C
    stops an answer.

    \b
    Examples:
      g4 chat
      g4 chat tiny
      g4 chat tiny -p "What is Q4_0?"
      g4 chat -c -p "And in one sentence?"
      g4 chat e2b --think on < question.txt
      g4 chat e2b --prompts questions.jsonl --output answers.jsonl
      g4 chat e2b -x -p "A Python script that counts files." -o count.py
      cat file.txt | g4 chat e2b -p "Summarize this."
      g4 chat e2b -p "Invent a dog." --schema "name, age int, bio"
      g4 chat e2b -p "What day is it?" --builtin time --yes current_time
      g4 chat e2b --mcp servers.json --tools my_functions.py
      g4 chat e2b -p "What does it show?" --image photo.jpg
      g4 chat e2b -p "Draw a pelican as SVG." --svg pelican.svg
      g4 chat tiny -p "What is GGUF?" --temp 0 --json
      g4 chat e2b --resume last --state-cache 4G
      g4 chat e2b -p "A long story." --on-loop retry
      g4 chat 31b:q8_0 --rpc 192.168.1.20:50052,ssh://me@192.168.1.21
    """
    out = make_output(as_json=json or stream_json, quiet=quiet)
    if continue_ and resume is not None:
        raise UsageError("--continue and --resume cannot be used together")
    from g4cli.cli.chat.display import ChatDisplay
    from g4cli.cli.chat.question import read_at_file
    from g4cli.cli.chat.run import run_chat
    from g4cli.operations.chat.request import ChatRequest
    from g4cli.operations.serving.options import parse_parallel

    tool_options = t.make_tool_options(
        tools=tools, tool=tool, mcp=mcp, builtin=builtin, yes=yes, max_tool_rounds=max_tool_rounds,
        origins=read_origins(context),
    )  # fmt: skip
    request = ChatRequest(
        model=model, image=image or (), audio=audio or (), mmproj=mmproj,
        image_tokens=image_tokens, system=read_at_file(system), think=think,
        tools=None if t.is_python_file(tools) else tools, json_schema=json_schema, schema=schema,
        grammar=grammar, regex=regex, on_overflow=on_overflow, temp=temp, top_p=top_p, top_k=top_k,
        min_p=min_p, repeat_penalty=repeat_penalty, seed=seed, max_tokens=max_tokens,
        stop=stop or (), n_probs=logprobs, on_loop="ignore" if no_loop_stop else on_loop, ctx=ctx,
        kv_type=kv_type, threads=threads, gpu_layers=gpu_layers, device=device, mmap=mmap,
        lazy_ple=lazy_ple, cpu_moe=cpu_moe, expand=expand, draft=draft,
        state_cache="off" if private else state_cache,
        workers=e.make_worker_options(rpc, tensor_split),
    )  # fmt: skip
    display = ChatDisplay(
        thoughts=thoughts, stats=stats, banner=not quiet, drawing=svg, private=private,
        output=output, only_code=extract, stream_json=stream_json, origins=read_origins(context),
    )  # fmt: skip
    if (n_parallel := parse_parallel(parallel)) and prompts is None:
        raise UsageError("--parallel needs --prompts", hint="--prompts questions.jsonl")
    raise typer.Exit(
        run_chat(out, request, prompt, display, resume="last" if continue_ else resume,
                 prompts=prompts, n_parallel=n_parallel, tool_options=tool_options)
    )  # fmt: skip
