"""The options of `g4 chats`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

from g4cli.cli.completion import complete_conversation

ChatArg: TypeAlias = Annotated[
    str,
    typer.Argument(
        help="Id of a conversation, or last.",
        metavar="ID",
        show_default=False,
        autocompletion=complete_conversation,
    ),
]
ChatsArg: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        help="Ids of conversations.", metavar="ID...", autocompletion=complete_conversation
    ),
]
LimitOpt: TypeAlias = Annotated[
    int, typer.Option("--limit", "-n", min=0, help="At most N conversations; 0: all.")
]
WordsArg: TypeAlias = Annotated[list[str], typer.Argument(metavar="TEXT...", help="Words to find.")]
ExportArg: TypeAlias = Annotated[
    Path | None,
    typer.Argument(help="File to write, .md or .json.", metavar="[FILE]"),
]
FormatOpt: TypeAlias = Annotated[
    Literal["auto", "md", "json"],
    typer.Option("--format", help="Markdown or JSON; auto: by the name of FILE, or --json."),
]
TitleArg: TypeAlias = Annotated[str, typer.Argument(help="New title.", metavar="TITLE")]
