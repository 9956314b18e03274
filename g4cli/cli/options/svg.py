"""The arguments and options of `g4 svg`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

FileArg: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="SVG file, or an answer that contains one; - reads standard input.",
        metavar="FILE",
    ),
]
RepairedArg: TypeAlias = Annotated[
    Path | None,
    typer.Argument(
        help="File to write. Default: standard output.",
        metavar="OUT",
    ),
]
PictureArg: TypeAlias = Annotated[Path, typer.Argument(help="PNG file to write.", metavar="OUT")]
WidthOpt: TypeAlias = Annotated[
    int | None,
    typer.Option("--width", min=1, max=8192, help="Width in pixels. Default: that of the drawing."),
]
