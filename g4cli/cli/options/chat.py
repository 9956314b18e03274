"""The options of `g4 chat`; other commands that run a model share them.

An option whose value is not one of a list, such as --ctx or --draft, arrives as text: what it means
depends on the model, so it is parsed where the model is prepared (`operations/chat/plan.py`, and
`drafting.py` beside it, which makes a path of --draft).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from g4cli.cli.completion import complete_conversation
from g4cli.cli.options.common import check_threads
from g4cli.core.units import parse_gpu_layers

# The panels of `g4 chat --help`.
_PROMPT = "Prompt"
_MEDIA = "Images and audio"
_SAMPLING = "Sampling"
_ENGINE = "Engine"

Think: TypeAlias = Literal["off", "on", "low", "medium", "high"]
Thoughts: TypeAlias = Literal["show", "fold", "hide"]
Overflow: TypeAlias = Literal["drop", "error"]
KvType: TypeAlias = Literal["f16", "q8_0", "q4_0"]
Container: TypeAlias = Literal["bf16", "q8_0"]
LazyPle: TypeAlias = Literal["auto", "on", "off"]


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
    Think,
    typer.Option(
        "--think",
        help="Think before answering; low: at most 256 tokens, medium: at most 1024.",
        rich_help_panel=_PROMPT,
    ),
]
ThoughtsOpt: TypeAlias = Annotated[
    Thoughts,
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
    Overflow,
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
    typer.Option("--image", help="Image (jpg, png, bmp, gif). Repeatable.", rich_help_panel=_MEDIA),
]
AudioOpt: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--audio", help="Audio file (wav, mp3, flac). Repeatable.", rich_help_panel=_MEDIA
    ),
]
MmprojOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--mmproj",
        help="Encoder of images and audio. Default: the mmproj in the folder of the model.",
        rich_help_panel=_MEDIA,
    ),
]
ImageTokensOpt: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--image-tokens",
        help="Most tokens that one image takes: 70, 140, 280, 560 or 1120.",
        rich_help_panel=_MEDIA,
    ),
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
    typer.Option("--seed", help="Same seed, same answer.", min=0, rich_help_panel=_SAMPLING),
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
CtxOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--ctx",
        metavar="N",
        help="Tokens of context: 8192, 32k, max. Default: as many as fit.",
        rich_help_panel=_ENGINE,
    ),
]
KvTypeOpt: TypeAlias = Annotated[
    KvType, typer.Option("--kv-type", help="Type of the KV cache.", rich_help_panel=_ENGINE)
]
ThreadsOpt: TypeAlias = Annotated[
    int,
    typer.Option(
        "--threads",
        "-t",
        min=0,
        help="CPU threads; 0: all cores.",
        callback=check_threads,
        rich_help_panel=_ENGINE,
    ),
]
GpuLayersOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--gpu-layers",
        metavar="N|auto|all",
        help="Layers to offload, counted from the last; auto: as many as fit.",
        callback=parse_gpu_layers,
        rich_help_panel=_ENGINE,
    ),
]
DeviceOpt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="GPU to use, by its name in llama.cpp, such as CUDA0.",
        rich_help_panel=_ENGINE,
    ),
]
MmapOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--mmap/--no-mmap",
        help="Map the file into memory instead of reading it.",
        rich_help_panel=_ENGINE,
    ),
]
LazyPleOpt: TypeAlias = Annotated[
    LazyPle,
    typer.Option(
        "--lazy-ple",
        help="Keep per-layer embeddings on the disk; auto: above 4 GiB.",
        rich_help_panel=_ENGINE,
    ),
]
CpuMoeOpt: TypeAlias = Annotated[
    bool,
    typer.Option("--cpu-moe", help="Keep the experts of 26B on the CPU.", rich_help_panel=_ENGINE),
]
ExpandOpt: TypeAlias = Annotated[
    Container,
    typer.Option(
        "--expand",
        help="Type to expand an SFP8 archive to: bf16 (exact) or q8_0.",
        rich_help_panel=_ENGINE,
    ),
]
DraftOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--draft",
        metavar="auto|off|lookup|network|FILE",
        help="Speculative decoding: prompt lookup, or a draft model (network: the one pulled).",
        rich_help_panel=_ENGINE,
    ),
]
StateCacheOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--state-cache",
        metavar="SIZE|off",
        help="Most disk for prompts that were read (8G); auto: a tenth of what is free.",
        rich_help_panel=_ENGINE,
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
