"""g4 doctor: what is wrong with this machine, or with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from g4cli.cli.options import JsonOpt, QuietOpt
from g4cli.cli.output import output_for
from g4cli.core.errors import UsageError


def doctor(
    file: Annotated[
        Path | None, typer.Argument(help="A GGUF to examine; none: this machine.", show_default=False)
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Read only the header.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte and run every probe.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Only this check or family (file, keys, ...); repeatable.", metavar="ID"),
    ] = None,
    json: JsonOpt = False,
    quiet: QuietOpt = False,
) -> None:
    """Find out why a GGUF, or this machine, does not work.

    Names the cause, shows the evidence and says what to type. Leaves with 0 if all is well, 8 if something is
    broken, 5 if the file is no GGUF at all.

    \b
    Examples:
      g4 doctor                    check this machine
      g4 doctor model.gguf         examine a file and let it talk in a child process
      g4 doctor model.gguf --quick read only its header
    """
    out = output_for(as_json=json, quiet=quiet)
    if quick and deep:
        raise UsageError("--quick and --deep exclude each other")
    from g4cli.cli.render_doctor import render_report
    from g4cli.doctor.diagnose import diagnose, known_ids
    from g4cli.doctor.machine import diagnose_machine

    wanted = tuple(only or ())
    unknown = sorted(set(wanted) - known_ids(machine=file is None))
    if unknown:
        known = " ".join(sorted(i for i in known_ids(machine=file is None) if "." not in i))
        raise UsageError(f"unknown check: {', '.join(unknown)}", hint=f"families: {known}")
    if file is None:
        report = diagnose_machine(wanted)
    else:
        report = diagnose(file, depth="quick" if quick else "deep" if deep else "default", only=wanted)
    out.result(report.as_json(), lambda: render_report(out, report), brief=report.verdict)
    if report.exit_code:
        raise typer.Exit(report.exit_code)
