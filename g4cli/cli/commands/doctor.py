"""`g4 doctor`: find out what is wrong with a file, or with this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.output import make_output
from g4cli.core.errors import UsageError

FileArg: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        help="GGUF file, pulled model, or hf:OWNER/REPO/FILE with --quick. "
        "Without FILE, this machine is checked.",
        metavar="FILE",
        show_default=False,
    ),
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


def doctor(
    file: FileArg = None,
    quick: QuickOpt = False,
    deep: DeepOpt = False,
    only: OnlyOpt = None,
    fix: FixOpt = None,
    report: ReportOpt = None,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Find out why a GGUF file does not work, or what is wrong with this machine.

    The report names the cause, the evidence and the command that helps. Exits with 0 if no check
    failed, with 8 if one failed, and with 5 if the file is not a GGUF. With --fix, the exit code is
    that of the repaired copy, if one was kept.

    \b
    Examples:
      g4 doctor                                 check this machine
      g4 doctor model.gguf                      examine a file and run it
      g4 doctor hf:ggml-org/gemma-4-E2B-it-GGUF --quick
      g4 doctor model.gguf --fix repaired.gguf  repair its metadata in a copy
      g4 doctor model.gguf --deep --report bug.md
    """
    out = make_output(as_json=json, quiet=quiet)
    if quick and deep:
        raise UsageError("--quick and --deep exclude each other")
    from g4cli.cli.views.doctor import draw_diagnosis
    from g4cli.operations.diagnose import DiagnoseRequest, run_diagnosis

    request = DiagnoseRequest(
        file,
        depth="quick" if quick else "deep" if deep else "default",
        only=tuple(only or ()),
        repaired=fix,
        bug_report=report,
    )
    diagnosis = run_diagnosis(request, out)
    out.result(
        diagnosis.as_json(),
        lambda: draw_diagnosis(out, diagnosis),
        brief=diagnosis.report.verdict,
    )
    if diagnosis.exit_code:
        raise typer.Exit(diagnosis.exit_code)
