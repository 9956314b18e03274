"""g4 chat: talk to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from g4cli.cli.options import JsonOpt, ModelArg, QuietOpt
from g4cli.cli.output import output_for

_SAMPLING = "Sampling"
_ENGINE = "Engine"
_PROMPT = "Prompt"


def chat(
    model: ModelArg,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", help="Answer this and leave; - reads standard input.")
    ] = None,
    system: Annotated[str, typer.Option("--system", help="The system text.", rich_help_panel=_PROMPT)] = "",
    think: Annotated[
        Literal["off", "on", "low", "medium", "high"],
        typer.Option(help="Think first; low: 256 tokens, medium: 1024.", rich_help_panel=_PROMPT),
    ] = "off",
    thoughts: Annotated[
        Literal["show", "fold", "hide"], typer.Option(help="What to do with them.", rich_help_panel=_PROMPT)
    ] = "show",
    tools: Annotated[
        Path | None,
        typer.Option("--tools", help="Tools (OpenAI's JSON list); calls are shown.", rich_help_panel=_PROMPT),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", help="Go on with a saved chat.", rich_help_panel=_PROMPT)
    ] = None,
    on_overflow: Annotated[
        Literal["drop", "error"],
        typer.Option("--on-overflow", help="When the context is full.", rich_help_panel=_PROMPT),
    ] = "drop",
    temp: Annotated[float | None, typer.Option("--temp", min=0, rich_help_panel=_SAMPLING)] = None,
    top_p: Annotated[float | None, typer.Option("--top-p", min=0, max=1, rich_help_panel=_SAMPLING)] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", min=0, rich_help_panel=_SAMPLING)] = None,
    min_p: Annotated[float | None, typer.Option("--min-p", min=0, max=1, rich_help_panel=_SAMPLING)] = None,
    repeat_penalty: Annotated[
        float | None, typer.Option("--repeat-penalty", min=0.1, rich_help_panel=_SAMPLING)
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, rich_help_panel=_SAMPLING)] = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", "-n", min=0, help="0: no limit.", rich_help_panel=_SAMPLING)
    ] = 0,
    no_loop_stop: Annotated[
        bool, typer.Option("--no-loop-stop", help="Let answers repeat.", rich_help_panel=_SAMPLING)
    ] = False,
    ctx: Annotated[
        str, typer.Option("--ctx", "-c", help="Tokens of context: 8192, 32k, max.", rich_help_panel=_ENGINE)
    ] = "",
    kv_type: Annotated[
        Literal["f16", "q8_0", "q4_0"], typer.Option("--kv-type", rich_help_panel=_ENGINE)
    ] = "f16",
    threads: Annotated[
        int, typer.Option("--threads", "-t", min=0, help="0: the cores.", rich_help_panel=_ENGINE)
    ] = 0,
    gpu_layers: Annotated[
        str, typer.Option("--gpu-layers", help="auto, or a number.", rich_help_panel=_ENGINE)
    ] = "auto",
    device: Annotated[str | None, typer.Option("--device", rich_help_panel=_ENGINE)] = None,
    mmap: Annotated[bool, typer.Option(help="Map the file.", rich_help_panel=_ENGINE)] = True,
    lazy_ple: Annotated[
        Literal["auto", "on", "off"],
        typer.Option("--lazy-ple", help="Per-layer embeddings stay on disk.", rich_help_panel=_ENGINE),
    ] = "auto",
    cpu_moe: Annotated[
        bool, typer.Option("--cpu-moe", help="Experts on the CPU.", rich_help_panel=_ENGINE)
    ] = False,
    expand: Annotated[
        Literal["bf16", "q8_0"],
        typer.Option("--expand", help="Run an SFP8 archive as bf16 (exact).", rich_help_panel=_ENGINE),
    ] = "bf16",
    stats: Annotated[bool, typer.Option("--stats", help="Show speeds after each answer.")] = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Talk to a model, or ask it one thing.

    Without -p, and with a terminal, a conversation opens; /help lists its commands. A question may also come
    through standard input. Sampling is Gemma 4's own (temp 1.0, top-p 0.95, top-k 64), unless the file
    recommends otherwise; your options win. Ctrl-C stops an answer.

    \b
    Examples:
      g4 chat tiny
      g4 chat tiny -p "What is Q4_0?"
      g4 chat e2b --think on < question.txt
      g4 chat tiny -p "What is GGUF?" --temp 0 --json
    """
    out = output_for(as_json=json, quiet=quiet)
    from g4cli.cli.talk import Request, talk

    given = {"temp": temp, "top_p": top_p, "top_k": top_k, "min_p": min_p, "seed": seed}
    given["repeat_penalty"] = repeat_penalty
    sampling = {name: value for name, value in given.items() if value is not None}
    request = Request(
        model=model, prompt=prompt, system=system, think=think, thoughts=thoughts, tools=tools,
        resume=resume, on_overflow=on_overflow, sampling=sampling,
        max_tokens=max_tokens, stop_on_loop=not no_loop_stop, ctx=ctx, kv_type=kv_type, threads=threads,
        gpu_layers=gpu_layers, device=device, mmap=mmap, lazy_ple=lazy_ple, cpu_moe=cpu_moe, stats=stats,
        expand=expand,
    )  # fmt: skip
    code = talk(out, request)
    if code:
        raise typer.Exit(code)
