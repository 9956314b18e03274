"""The arguments and options of `g4 compare`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from g4cli.cli.completion import complete_pulled
from g4cli.cli.options.common import model_option
from g4cli.core.config import expand_alias
from g4cli.core.quoting import shell_command

# The panels of `g4 compare --help` in which options stand.
_models_option = partial(typer.Option, rich_help_panel="Models")
_answers_option = partial(typer.Option, rich_help_panel="Answers")
_measure_option = partial(typer.Option, rich_help_panel="Measurements")

PromptArg: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="What to ask every model; with --types, the model whose types are compared.",
        metavar="PROMPT",
    ),
]
ModelsOpt: TypeAlias = Annotated[
    list[str] | None,
    _models_option(
        "--model",
        "-m",
        metavar="MODEL[@OPTION=VALUE,...]",
        autocompletion=complete_pulled,
        help="Model, path, or openai:URL#NAME for a model of a server. Repeatable.",
        callback=lambda words: [expand_alias(word) for word in words or ()],
    ),
]
TypesOpt: TypeAlias = Annotated[
    str,
    _models_option(
        "--types",
        metavar="TYPE,TYPE",
        help="Compare these types of the model that is named in place of the prompt.",
    ),
]
PromptsOpt: TypeAlias = Annotated[
    str,
    _answers_option(
        "--prompts",
        metavar="pelican|facts|code|schema|FILE",
        help="A set of prompts, or a file of JSON lines with id and prompt.",
    ),
]
PromptLimitOpt: TypeAlias = Annotated[
    int,
    _answers_option(
        "--limit",
        min=0,
        help="Use the first N prompts, and the first N answers or passages of --text; 0: all.",
    ),
]
SamplesOpt: TypeAlias = Annotated[
    int,
    _answers_option(
        "--samples", "-n", min=1, max=1000, help="Answers of each model to each prompt."
    ),
]
SeedOpt: TypeAlias = Annotated[
    int,
    _answers_option(
        "--seed",
        min=0,
        # --samples, at most 1,000, count on from it up to the last seed: the number of 32 bits
        # after that one is llama.cpp's "another seed each time".
        max=(1 << 32) - 1001,
        help="Seed of the first answer; the next ones count on from it.",
    ),
]
MaxTokensOpt: TypeAlias = Annotated[
    int,
    _answers_option("--max-tokens", min=0, help="Most tokens of an answer; 0: no limit."),
]
CompareCtxOpt: TypeAlias = Annotated[
    str,
    _answers_option(
        "--ctx",
        "-c",
        metavar="N",
        help="Tokens of context of local models: 8192, 32k, max. Default: 16k.",
    ),
]
JudgeOpt: TypeAlias = Annotated[
    str,
    model_option(
        "--judge",
        rich_help_panel="Measurements",
        help="Let this model say which of two answers is better: an opinion.",
    ),
]
TextOpt: TypeAlias = Annotated[
    Path | None,
    _measure_option(
        "--text", help="Measure perplexity on this text (as g4 eval) and speed of local models."
    ),
]
ReportOpt: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE.html",
        help="Report to write; the results are appended to FILE.jsonl.",
    ),
]
MarkdownOpt: TypeAlias = Annotated[
    bool, typer.Option("--md", help="Print the comparison as Markdown.")
]


def write_command(prompt: str, models: list[str], options: dict[str, Any]) -> str:
    """Return the command line that repeats a comparison, quoted for a shell, for its report.

    `options` maps option names ("--samples") to values; those that are "" or None are left out.
    """
    words = ["g4", "compare"]
    for model in models:
        words += ["-m", model]
    for name, value in options.items():
        if value not in ("", None):
            words += [name, str(value)]
    if prompt:
        words += ["--", prompt] if prompt.startswith("-") else [prompt]
    return shell_command(*words)
