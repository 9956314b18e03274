"""The arguments and options of `g4 svg`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

FileArg: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="An SVG, or a whole answer with one in it; - reads standard input.",
        metavar="FILE",
        show_default=False,
    ),
]
RepairedArg: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        help="The file to write; without it the drawing goes to standard output.",
        metavar="[OUT]",
        show_default=False,
    ),
]
PictureArg: TypeAlias = Annotated[
    Path, typer.Argument(help="The PNG to write.", metavar="OUT", show_default=False)
]
WidthOpt: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--width", min=1, max=8192, help="Pixels; without it as wide as the drawing says."
    ),
]
