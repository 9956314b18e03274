"""Options and arguments that several commands share, declared once."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from g4cli.cli.completion import complete_model_or_preset, complete_pulled
from g4cli.core.config import expand_alias
from g4cli.core.errors import UsageError

JsonOpt: TypeAlias = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document to standard output."),
]
QuietOpt: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only the essential result.")
]
YesOpt: TypeAlias = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")
]
StatesOpt: TypeAlias = Annotated[
    bool, typer.Option("--states", help="The saved states of prompts, instead of models.")
]
OutOpt: TypeAlias = Annotated[Path | None, typer.Option("--out", "-o", help="File to write.")]
ForceOpt: TypeAlias = Annotated[
    bool, typer.Option("--force", "-f", help="Overwrite the file if it exists.")
]
ModelArg: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="Model (e2b, 31b:q4_0, OWNER/REPO) or path of a GGUF file.",
        metavar="MODEL",
        autocompletion=complete_model_or_preset,
    ),
]
StoredModelArg: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="A model (e2b) or one type of it (e2b:q4_0).",
        metavar="MODEL",
        autocompletion=complete_pulled,
        show_default=False,
    ),
]


def expand_model(word: str | None) -> str | None:
    """Return the value of an option that names a model, with an alias replaced."""
    return expand_alias(word) if word else word


# An option whose value is a model of the store, or an alias of one.
model_option = partial(
    typer.Option, metavar="MODEL", autocompletion=complete_pulled, callback=expand_model
)


def check_threads(n_threads: int | None) -> int | None:
    """Return `n_threads` unless this machine has fewer logical cores. Raises UsageError.

    With more threads than cores, every matrix product waits for threads that are not running; with
    many more, a token takes minutes. The environment variable G4_FORCE_THREADS=1 allows it.
    """
    n_cores = os.cpu_count() or 1
    if n_threads and n_threads > n_cores and os.environ.get("G4_FORCE_THREADS", "") in ("", "0"):
        raise UsageError(
            f"{n_threads:,} threads would stall each other on the {n_cores} cores of this machine",
            hint=f"--threads {n_cores}, or G4_FORCE_THREADS=1 to run it anyway",
        )
    return n_threads
