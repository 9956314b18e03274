"""Options and arguments that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

JsonOpt: TypeAlias = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document on standard output and nothing else."),
]
QuietOpt: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only what a script needs.")
]
YesOpt: TypeAlias = Annotated[
    bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")
]
OutOpt: TypeAlias = Annotated[
    Path | None, typer.Option("--out", "-o", help="The file to write.", show_default=False)
]
ForceOpt: TypeAlias = Annotated[
    bool, typer.Option("--force", "-f", help="Replace the file to write if it exists.")
]
ModelArg: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="A model (e2b, 31b:q4_0, tiny) or the path of a GGUF.",
        metavar="MODEL",
        show_default=False,
    ),
]
