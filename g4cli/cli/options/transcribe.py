"""The options that `g4 transcribe` has alone or with another meaning than `g4 chat`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from g4cli.cli.options.common import model_option

RecordingsArg: TypeAlias = Annotated[
    list[Path],
    typer.Argument(
        help="Recordings: wav, mp3, flac or ogg, up to four hours each.",
        metavar="FILE...",
    ),
]
ModelOpt: TypeAlias = Annotated[
    str,
    model_option(
        "--model",
        "-m",
        help="Model with an audio encoder (e2b, e4b, 12b) or a GGUF file. "
        "Default: the first of g4 list that has one.",
    ),
]
FormOpt: TypeAlias = Annotated[
    Literal["txt", "srt", "vtt", "json"],
    typer.Option(
        "--to",
        help="Form of each transcript: srt and vtt are subtitles, json has segments with times. "
        "(--json prints one document about all recordings.)",
    ),
]
LanguageOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--language",
        metavar="LANG",
        help="Language that is spoken: de, or German. Default: the model finds it out.",
    ),
]
TranslateOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--translate",
        metavar="LANG",
        help="Translate to this language: en, or English.",
    ),
]
PromptOpt: TypeAlias = Annotated[
    str,
    typer.Option(
        "--prompt",
        "-p",
        help="Names and words that occur in the recording.",
    ),
]
OutOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="PATH",
        help="File to write; with several recordings a folder. Default: standard output.",
    ),
]
