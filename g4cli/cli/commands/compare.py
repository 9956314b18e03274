"""`g4 compare`: ask several models the same, and show the answers side by side."""

from __future__ import annotations

from pathlib import Path

import typer

import g4cli.cli.options.compare as o
from g4cli.cli.options.chat import SystemOpt, TempOpt, ThinkOpt
from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.output import make_output
from g4cli.core.errors import Interrupted, UsageError


def compare(
    prompt: o.PromptArg = "",
    model: o.ModelsOpt = None,
    types: o.TypesOpt = "",
    prompts: o.PromptsOpt = "",
    limit: o.PromptLimitOpt = 0,
    samples: o.SamplesOpt = 1,
    seed: o.SeedOpt = 1,
    max_tokens: o.MaxTokensOpt = 4096,
    ctx: o.CompareCtxOpt = "",
    system: SystemOpt = "",
    think: ThinkOpt = "off",
    temp: TempOpt = None,
    judge: o.JudgeOpt = "",
    text: o.TextOpt = None,
    out_file: o.ReportOpt = Path("compare.html"),
    md: o.MarkdownOpt = False,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Ask several models the same, and show the answers side by side in one HTML file.

    Local models are loaded one after the other; one that does not fit into memory is skipped.
    openai:URL#NAME asks a model of a server with OpenAI's API; @key=VARIABLE names the environment
    variable with its key. Any option of g4 chat can follow a model: e2b:q4_0@kv-type=q8_0,temp=0.

    Every answer is appended to a file beside the report: the same command continues after an
    interruption, and asks only what is missing.

    \b
    Examples:
      g4 compare "Generate an SVG of a pelican riding a bicycle" -m e2b -m e4b:q8_0 -n 3
      g4 compare --prompts pelican -m e2b -m 26b -o pelicans.html
      g4 compare --prompts facts -m e2b -m openai:http://127.0.0.1:8080/v1#qwen3 --md
      g4 compare "What is GGUF?" -m e2b@temp=0 -m e2b@temp=1 --judge 26b
      g4 compare --types q8_0,q6_k,q4_0 e2b --text chats.jsonl
    """
    out = make_output(as_json=json, quiet=quiet)
    if md and (json or quiet):
        raise UsageError("--md cannot be used with --json or --quiet")
    from g4cli.cli.chat.question import read_at_file
    from g4cli.cli.views.compare import draw_comparison, require_report_target, write_report
    from g4cli.cli.views.compare_markdown import make_markdown
    from g4cli.core.config import expand_alias
    from g4cli.operations.compare.document import make_document
    from g4cli.operations.compare.request import make_request
    from g4cli.operations.compare.results import ResultsFile
    from g4cli.operations.compare.run import run_comparison

    require_report_target(out_file)
    # As text, as the options of a model after "@" are: those have precedence over these.
    settings = {
        "seed": str(seed),
        "max-tokens": str(max_tokens),
        "ctx": ctx,
        "system": system,
        "think": "" if think == "off" else think,
        "temp": "" if temp is None else f"{temp:g}",
    }
    options = {f"--{name}": value for name, value in settings.items()} | {
        "--types": types,
        "--prompts": prompts,
        "--limit": limit or "",
        "-n": samples,
        "--judge": judge,
        "--text": text,
        "-o": out_file,
    }
    request = make_request(
        expand_alias(prompt) if types else prompt,  # with --types PROMPT is a model
        model or [],
        types=types,
        prompts=prompts,
        limit=limit,
        samples=samples,
        settings={
            **{name: value for name, value in settings.items() if value},
            # The content of @FILE; the repeatable command below has the name of the file.
            **({"system": read_at_file(system)} if system else {}),
        },
        judge=judge,
        text=text,
        command=o.write_command(prompt, model or [], options),
    )
    results = ResultsFile(out_file.with_suffix(".jsonl"))
    comparison = run_comparison(request, results, out)
    document = make_document(comparison, results)
    write_report(document, out_file)
    if md:
        out.stream(make_markdown(document))
    else:
        out.result(document, lambda: draw_comparison(out, document, out_file), brief=str(out_file))
    if comparison.interrupted:
        raise typer.Exit(Interrupted.exit_code)
