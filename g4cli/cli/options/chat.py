"""The options of `g4 chat` that do not concern the engine; some are shared with other commands."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from g4cli.cli.completion import complete_conversation
from g4cli.cli.options.engine import media_option

# The panels of `g4 chat --help` in which options stand.
prompt_option = partial(typer.Option, rich_help_panel="Prompt")
sampling_option = partial(typer.Option, rich_help_panel="Sampling")
_output_option = partial(typer.Option, rich_help_panel="Output")

PromptOpt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "-p",
        help="Answer this prompt and exit; @FILE: that in a file; piped input goes before it.",
    ),
]
SystemOpt: TypeAlias = Annotated[
    str,
    prompt_option("--system", help="The system prompt; @FILE reads it from a file."),
]
ThinkOpt: TypeAlias = Annotated[
    Literal["off", "on", "low", "medium", "high"],
    prompt_option(
        "--think", help="Think before answering; low: at most 256 tokens, medium: at most 1024."
    ),
]
ThoughtsOpt: TypeAlias = Annotated[
    Literal["show", "fold", "hide"],
    prompt_option("--thoughts", help="Show thoughts, fold them into one line, or hide them."),
]
ContinueOpt: TypeAlias = Annotated[
    bool,
    prompt_option("--continue", "-c", help="Continue the last conversation."),
]
ResumeOpt: TypeAlias = Annotated[
    str | None,
    prompt_option(
        "--resume",
        metavar="ID|last|FILE",
        autocompletion=complete_conversation,
        help="Continue a saved conversation (g4 chats lists them) or a file written by /save.",
    ),
]
StopOpt: TypeAlias = Annotated[
    list[str] | None,
    prompt_option("--stop", help="End the answer before this text (repeatable)."),
]
PromptsOpt: TypeAlias = Annotated[
    Path | None,
    prompt_option(
        "--prompts",
        help="Answer each line of a JSONL file (id, prompt, system, image); needs --output.",
    ),
]
ParallelOpt: TypeAlias = Annotated[
    str,
    prompt_option(
        "--parallel",
        metavar="N|auto",
        help="With --prompts: answers computed at once; auto: as many as are faster.",
    ),
]
PrivateOpt: TypeAlias = Annotated[
    bool,
    prompt_option(
        "--private", help="Save neither this conversation nor the states of its prompts."
    ),
]
OverflowOpt: TypeAlias = Annotated[
    Literal["drop", "error"],
    prompt_option(
        "--on-overflow",
        help="When the context is full: drop the oldest turns, or exit with an error.",
    ),
]
JsonSchemaOpt: TypeAlias = Annotated[
    Path | None,
    prompt_option(
        "--json-schema",
        help="Constrain the answer to JSON that matches this JSON Schema; - reads it from standard "
        "input.",
    ),
]
SchemaOpt: TypeAlias = Annotated[
    str,
    prompt_option(
        "--schema",
        metavar="FIELDS",
        help='The same in short: "name, age int, bio: one sentence" (str, int, float, bool).',
    ),
]
GrammarOpt: TypeAlias = Annotated[
    Path | None,
    prompt_option(
        "--grammar", help="Constrain the answer to this grammar: FILE.lark, or else GBNF."
    ),
]
RegexOpt: TypeAlias = Annotated[
    str,
    prompt_option(
        "--regex",
        metavar="RE",
        help="Constrain the answer to this regular expression (the syntax of Rust).",
    ),
]
ImageOpt: TypeAlias = Annotated[
    list[Path] | None,
    media_option("--image", help="Image (jpg, png, bmp, gif). Repeatable."),
]
AudioOpt: TypeAlias = Annotated[
    list[Path] | None,
    media_option("--audio", help="Audio file (wav, mp3, flac). Repeatable."),
]
TempOpt: TypeAlias = Annotated[
    float | None,
    sampling_option(
        "--temp",
        metavar="T",
        help="Temperature; 0: always the most likely token. Gemma 4: 1.0.",
        min=0,
    ),
]
TopPOpt: TypeAlias = Annotated[
    float | None,
    sampling_option(
        "--top-p",
        metavar="P",
        help="Sample from the most likely tokens whose probabilities add up to P. Gemma 4: 0.95.",
        min=0,
        max=1,
    ),
]
TopKOpt: TypeAlias = Annotated[
    int | None,
    sampling_option(
        "--top-k",
        metavar="K",
        help="Sample from the K most likely tokens; 0: all. Gemma 4: 64.",
        min=0,
    ),
]
MinPOpt: TypeAlias = Annotated[
    float | None,
    sampling_option(
        "--min-p",
        metavar="P",
        help="Sample from tokens at least P times as likely as the most likely one; 0: off.",
        min=0,
        max=1,
    ),
]
RepeatPenaltyOpt: TypeAlias = Annotated[
    float | None,
    sampling_option(
        "--repeat-penalty",
        help="Penalty for repeated tokens; 1: none.",
        min=0.1,  # logits are divided by it, so 0 is impossible; a choice: far below any use
    ),
]
SeedOpt: TypeAlias = Annotated[
    int | None,
    sampling_option(
        "--seed",
        help="Same seed, same answer.",
        min=0,
        max=(1 << 32) - 2,  # the last number of 32 bits is llama.cpp's "another seed each time"
    ),
]
MaxTokensOpt: TypeAlias = Annotated[
    int,
    sampling_option("--max-tokens", "-n", min=0, help="Most tokens of an answer; 0: no limit."),
]
NoLoopStopOpt: TypeAlias = Annotated[
    bool,
    sampling_option("--no-loop-stop", help="Do not stop answers that repeat themselves."),
]
OnLoopOpt: TypeAlias = Annotated[
    Literal["stop", "retry", "warn"],
    sampling_option(
        "--on-loop",
        help="What to do when an answer repeats itself: stop it; retry: cut it back to where that "
        "began and continue once in another way; warn: say so and go on.",
    ),
]
OutputOpt: TypeAlias = Annotated[
    Path | None,
    _output_option(
        "--output", "-o", help="Write the answer to FILE; with --prompts, append the answers to it."
    ),
]
OnlyCodeOpt: TypeAlias = Annotated[
    bool,
    _output_option("--extract", "-x", help="Print only the first code block of the answer."),
]
StreamJsonOpt: TypeAlias = Annotated[
    bool,
    _output_option("--stream-json", help="Print a line of JSON for each event of the answer."),
]
LogprobsOpt: TypeAlias = Annotated[
    int | None,
    _output_option(
        "--logprobs",
        min=0,
        max=20,  # as in OpenAI's API
        help="With --json or --stream-json: log-probabilities of each token and N alternatives.",
    ),
]
StatsOpt: TypeAlias = Annotated[
    bool, typer.Option("--stats", help="Show speeds after each answer.")
]
DrawingOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--svg",
        metavar="OUT",
        help="Write the drawing in the answer, repaired: OUT.svg or OUT.png.",
    ),
]
