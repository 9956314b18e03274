"""The options of `g4 chat` and `g4 bench`, one alias each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from g4cli.cli.options.common import check_threads

_PROMPT = "Prompt"
_MEDIA = "Images and sound"
_SAMPLING = "Sampling"
_ENGINE = "Engine"

Think: TypeAlias = Literal["off", "on", "low", "medium", "high"]
Thoughts: TypeAlias = Literal["show", "fold", "hide"]
Overflow: TypeAlias = Literal["drop", "error"]
KvType: TypeAlias = Literal["f16", "q8_0", "q4_0"]
Carrier: TypeAlias = Literal["bf16", "q8_0"]
LazyPle: TypeAlias = Literal["auto", "on", "off"]


@dataclass(frozen=True, slots=True)
class ChatDisplay:
    """How a chat is shown: `thoughts` (show, fold or hide), speeds after each answer, the banner."""

    thoughts: str = "show"
    stats: bool = False
    banner: bool = True


PromptOpt: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        "-p",
        help="Answer this and exit; standard input, read to its end, goes before it.",
    ),
]
SystemOpt: TypeAlias = Annotated[
    str, typer.Option("--system", help="The system text.", rich_help_panel=_PROMPT)
]
ThinkOpt: TypeAlias = Annotated[
    Think,
    typer.Option(
        "--think",
        help="Think first; low ends it at 256 tokens, medium at 1024.",
        rich_help_panel=_PROMPT,
    ),
]
ThoughtsOpt: TypeAlias = Annotated[
    Thoughts, typer.Option("--thoughts", help="What to do with thoughts.", rich_help_panel=_PROMPT)
]
ToolsOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--tools",
        help="Tools as OpenAI's JSON list; calls are shown, not run.",
        rich_help_panel=_PROMPT,
    ),
]
ResumeOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--resume",
        metavar="last|list|NAME|FILE",
        help="Go on with a chat: the last, a kept one, or a file of /save.",
        rich_help_panel=_PROMPT,
    ),
]
OverflowOpt: TypeAlias = Annotated[
    Overflow,
    typer.Option(
        "--on-overflow",
        help="When the context is full: drop old turns, or stop.",
        rich_help_panel=_PROMPT,
    ),
]
SchemaOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--json-schema", help="Answer with JSON that this schema allows.", rich_help_panel=_PROMPT
    ),
]
GrammarOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--grammar", help="Answer in the language of this GBNF file.", rich_help_panel=_PROMPT
    ),
]
ImageOpt: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        "--image", help="A picture (jpg, png, bmp, gif); repeatable.", rich_help_panel=_MEDIA
    ),
]
AudioOpt: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option("--audio", help="A sound (wav, mp3, flac); repeatable.", rich_help_panel=_MEDIA),
]
MmprojOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--mmproj", help="The encoder, if it does not lie beside the model.", rich_help_panel=_MEDIA
    ),
]
ImageTokensOpt: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--image-tokens",
        help="At most so many for a picture: 70 140 280 560 1120.",
        rich_help_panel=_MEDIA,
    ),
]
TempOpt: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--temp",
        help="0 always takes the likeliest token; Gemma 4: 1.0.",
        min=0,
        rich_help_panel=_SAMPLING,
    ),
]
TopPOpt: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        help="Only the likeliest that make up P; Gemma 4: 0.95.",
        min=0,
        max=1,
        rich_help_panel=_SAMPLING,
    ),
]
TopKOpt: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--top-k", help="Only the K likeliest; Gemma 4: 64.", min=0, rich_help_panel=_SAMPLING
    ),
]
MinPOpt: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--min-p",
        help="Only those P times as likely as the best; 0: off.",
        min=0,
        max=1,
        rich_help_panel=_SAMPLING,
    ),
]
PenaltyOpt: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--repeat-penalty", help="Above 1: less repetition.", min=0.1, rich_help_panel=_SAMPLING
    ),
]
SeedOpt: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--seed", help="The same number, the same answer.", min=0, rich_help_panel=_SAMPLING
    ),
]
MaxTokensOpt: TypeAlias = Annotated[
    int, typer.Option("--max-tokens", "-n", min=0, help="0: no limit.", rich_help_panel=_SAMPLING)
]
NoLoopStopOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-loop-stop", help="Let an answer repeat itself for ever.", rich_help_panel=_SAMPLING
    ),
]
CtxOpt: TypeAlias = Annotated[
    str,
    typer.Option("--ctx", "-c", help="Tokens of context: 8192, 32k, max.", rich_help_panel=_ENGINE),
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
        help="0: as many as cores.",
        callback=check_threads,
        rich_help_panel=_ENGINE,
    ),
]
GpuLayersOpt: TypeAlias = Annotated[
    str, typer.Option("--gpu-layers", help="auto, or a number.", rich_help_panel=_ENGINE)
]
DeviceOpt: TypeAlias = Annotated[
    str | None, typer.Option("--device", help="The GPU to use, by name.", rich_help_panel=_ENGINE)
]
MmapOpt: TypeAlias = Annotated[
    bool,
    typer.Option("--mmap/--no-mmap", help="Map the file, or read it.", rich_help_panel=_ENGINE),
]
LazyPleOpt: TypeAlias = Annotated[
    LazyPle,
    typer.Option("--lazy-ple", help="Keep per-layer embeddings on disk.", rich_help_panel=_ENGINE),
]
CpuMoeOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--cpu-moe", help="Keep the experts of the 26B on the CPU.", rich_help_panel=_ENGINE
    ),
]
ExpandOpt: TypeAlias = Annotated[
    Carrier,
    typer.Option(
        "--expand", help="Run an SFP8 archive as bf16 (exact) or q8_0.", rich_help_panel=_ENGINE
    ),
]
DraftOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--draft",
        metavar="auto|off|lookup|FILE",
        help="Speculative decoding: off, prompt lookup, or a draft model (auto: the one pulled).",
        rich_help_panel=_ENGINE,
    ),
]
StatsOpt: TypeAlias = Annotated[
    bool, typer.Option("--stats", help="Show speeds after each answer.")
]
