"""The options of `g4 chat` that say in which form a single answer is written, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

_OUTPUT = "Output"  # a panel of `g4 chat --help`
# Alternatives for each token: as many as OpenAI's API allows.
MAX_LOGPROBS = 20

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
        max=MAX_LOGPROBS,
        help="With --json or --stream-json: log-probabilities of each token and N alternatives.",
        rich_help_panel=_OUTPUT,
    ),
]
