"""The options of `g4 chat` that do not concern the engine; some are shared with other commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import typer

from g4cli.cli.completion import complete_conversation
from g4cli.cli.options.engine import MEDIA

# The panels of `g4 chat --help`.
_PROMPT: Final = "Prompt"
_SAMPLING: Final = "Sampling"
_OUTPUT: Final = "Output"

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
    typer.Option(
        "--system",
        help="The system prompt; @FILE reads it from a file.",
        rich_help_panel=_PROMPT,
    ),
]
ThinkOpt: TypeAlias = Annotated[
    Literal["off", "on", "low", "medium", "high"],
    typer.Option(
        "--think",
        help="Think before answering; low: at most 256 tokens, medium: at most 1024.",
        rich_help_panel=_PROMPT,
    ),
]
ThoughtsOpt: TypeAlias = Annotated[
    Literal["show", "fold", "hide"],
    typer.Option(
        "--thoughts",
        help="Show thoughts, fold them into one line, or hide them.",
        rich_help_panel=_PROMPT,
    ),
]
ContinueOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--continue", "-c", help="Continue the last conversation.", rich_help_panel=_PROMPT
    ),
]
ResumeOpt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--resume",
        metavar="ID|last|FILE",
        autocompletion=complete_conversation,
        help="Continue a saved conversation (g4 chats lists them) or a file written by /save.",
        rich_help_panel=_PROMPT,
    ),
]
StopOpt: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--stop",
        help="End the answer before this text (repeatable).",
        rich_help_panel=_PROMPT,
    ),
]
PromptsOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        help="Answer each line of a JSONL file (id, prompt, system, image); needs --output.",
        rich_help_panel=_PROMPT,
    ),
]
ParallelOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--parallel",
        metavar="N|auto",
        help="With --prompts: answers computed at once; auto: as many as are faster.",
        rich_help_panel=_PROMPT,
    ),
]
PrivateOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--private",
        help="Save neither this conversation nor the states of its prompts.",
        rich_help_panel=_PROMPT,
    ),
]
OverflowOpt: TypeAlias = Annotated[
    Literal["drop", "error"],
    typer.Option(
        "--on-overflow",
        help="When the context is full: drop the oldest turns, or exit with an error.",
        rich_help_panel=_PROMPT,
    ),
]
JsonSchemaOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--json-schema",
        help="Constrain the answer to JSON that matches this JSON Schema; - reads it from standard "
        "input.",
        rich_help_panel=_PROMPT,
    ),
]
SchemaOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--schema",
        metavar="FIELDS",
        help='The same in short: "name, age int, bio: one sentence" (str, int, float, bool).',
        rich_help_panel=_PROMPT,
    ),
]
GrammarOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--grammar",
        help="Constrain the answer to this grammar: FILE.lark, or else GBNF.",
        rich_help_panel=_PROMPT,
    ),
]
RegexOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--regex",
        metavar="RE",
        help="Constrain the answer to this regular expression (the syntax of Rust).",
        rich_help_panel=_PROMPT,
    ),
]
ImageOpt: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--image", help="Image (jpg, png, bmp, gif). Repeatable.", rich_help_panel=MEDIA),
]
AudioOpt: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--audio", help="Audio file (wav, mp3, flac). Repeatable.", rich_help_panel=MEDIA),
]
TempOpt: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--temp",
        metavar="T",
        help="Temperature; 0: always the most likely token. Gemma 4: 1.0.",
        min=0,
        rich_help_panel=_SAMPLING,
    ),
]
TopPOpt: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        metavar="P",
        help="Sample from the most likely tokens whose probabilities add up to P. Gemma 4: 0.95.",
        min=0,
        max=1,
        rich_help_panel=_SAMPLING,
    ),
]
TopKOpt: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="K",
        help="Sample from the K most likely tokens; 0: all. Gemma 4: 64.",
        min=0,
        rich_help_panel=_SAMPLING,
    ),
]
MinPOpt: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--min-p",
        metavar="P",
        help="Sample from tokens at least P times as likely as the most likely one; 0: off.",
        min=0,
        max=1,
        rich_help_panel=_SAMPLING,
    ),
]
RepeatPenaltyOpt: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--repeat-penalty",
        help="Penalty for repeated tokens; 1: none.",
        min=0.1,  # logits are divided by it, so 0 is impossible; a choice: far below any use
        rich_help_panel=_SAMPLING,
    ),
]
SeedOpt: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--seed",
        help="Same seed, same answer.",
        min=0,
        max=(1 << 32) - 2,  # the last number of 32 bits is llama.cpp's "another seed each time"
        rich_help_panel=_SAMPLING,
    ),
]
MaxTokensOpt: TypeAlias = Annotated[
    int,
    typer.Option(
        "--max-tokens",
        "-n",
        min=0,
        help="Most tokens of an answer; 0: no limit.",
        rich_help_panel=_SAMPLING,
    ),
]
NoLoopStopOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-loop-stop",
        help="Do not stop answers that repeat themselves.",
        rich_help_panel=_SAMPLING,
    ),
]
OnLoopOpt: TypeAlias = Annotated[
    Literal["stop", "retry", "warn"],
    typer.Option(
        "--on-loop",
        help="What to do when an answer repeats itself: stop it; retry: cut it back to where that "
        "began and continue once in another way; warn: say so and go on.",
        rich_help_panel=_SAMPLING,
    ),
]
OutputOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write the answer to FILE; with --prompts, append the answers to it.",
        rich_help_panel=_OUTPUT,
    ),
]
OnlyCodeOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--extract",
        "-x",
        help="Print only the first code block of the answer.",
        rich_help_panel=_OUTPUT,
    ),
]
StreamJsonOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--stream-json",
        help="Print a line of JSON for each event of the answer.",
        rich_help_panel=_OUTPUT,
    ),
]
LogprobsOpt: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--logprobs",
        min=0,
        max=20,  # as in OpenAI's API
        help="With --json or --stream-json: log-probabilities of each token and N alternatives.",
        rich_help_panel=_OUTPUT,
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
