"""Options of `g4 doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from g4cli.cli.completion import complete_check, complete_pulled
from g4cli.cli.options.common import expand_model

FileArg: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        help="GGUF file, pulled model, or OWNER/REPO with --quick. "
        "Without FILE, this machine is checked.",
        metavar="FILE",
        autocompletion=complete_pulled,
        callback=expand_model,
    ),
]
PromptArg: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        help="With --loop: the prompt at which the model repeats itself.",
        metavar="PROMPT",
    ),
]
LoopOpt: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--loop", help="Find out by experiments under which conditions the model repeats itself."
    ),
]
BudgetOpt: TypeAlias = Annotated[
    str,
    typer.Option("--budget", help="How long the experiments of --loop may take: 90s, 10m, 1h30m."),
]
QuickOpt: TypeAlias = Annotated[bool, typer.Option("--quick", help="Read only the header.")]
DeepOpt: TypeAlias = Annotated[
    bool, typer.Option("--deep", help="Read every byte and run every probe.")
]
OnlyOpt: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="Run only this check, or this family of checks (file, keys, ...). Repeatable.",
        metavar="ID",
        autocompletion=complete_check,
    ),
]
FixOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option("--fix", help="Write a copy with repaired metadata.", metavar="OUT"),
]
ReportOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--report", help="Write a bug report in Markdown, without private paths.", metavar="MD"
    ),
]
