"""g4 doctor: what is wrong with this machine, or with a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from g4cli.cli.options.common import JsonOpt, QuietOpt
from g4cli.cli.output import output_for
from g4cli.core.errors import UsageError

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import Depth


FileArg: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        help="A GGUF, a pulled model, or hf:OWNER/REPO/FILE with --quick; none: this machine.",
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
        "--only", help="Only this check or family (file, keys, ...); repeatable.", metavar="ID"
    ),
]
FixOpt: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--fix", help="Write a copy with everything mended that metadata can mend.", metavar="OUT"
    ),
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
    """Find out why a GGUF, or this machine, does not work.

    Names the cause, shows the evidence and says what to type. Leaves with 0 if all is well, 8 if something is
    broken, 5 if the file is no GGUF at all. With --fix the mended copy decides.

    \b
    Examples:
      g4 doctor                                 check this machine
      g4 doctor model.gguf                      examine a file and let it talk in a child process
      g4 doctor hf:ggml-org/gemma-4-E2B-it-GGUF --quick
      g4 doctor model.gguf --fix mended.gguf    repair what metadata can repair
      g4 doctor model.gguf --deep --report bug.md
    """
    from g4cli.core.hub_name import is_on_hub

    out = output_for(as_json=json, quiet=quiet)
    if quick and deep:
        raise UsageError("--quick and --deep exclude each other")
    if fix is not None and (file is None or is_on_hub(file)):
        raise UsageError("--fix needs a file on this disk", hint="g4 doctor FILE --fix OUT")
    from g4cli.cli.views.doctor import examine, render_repair, render_report
    from g4cli.core.files import atomic_file
    from g4cli.doctor.bug_report import bug_report
    from g4cli.doctor.repair import is_better, repair, require_new

    if report is not None:
        _require_report(report)
    depth: Depth = "quick" if quick else "deep" if deep else "default"
    if fix is not None:
        require_new(fix)  # before minutes of checks
    found, path = examine(out, file, depth, tuple(only or ()))
    data = found.as_json()
    mended, after, kept = None, None, False
    if fix is not None and path is not None and found.header_readable:
        with out.progress(f"writing {fix.name}") as progress:
            mended = repair(found, path, fix, progress=progress)
        after = examine(out, str(fix), depth, ())[0] if mended.done else None
        kept = after is not None and is_better(after, found)
        if mended.done and not kept:
            fix.unlink()
        data["repair"] = mended.as_json() | {
            "verdict": after.verdict if after else None,
            "kept": kept,
            "path": str(fix) if kept else None,
        }
    if report is not None:
        with atomic_file(report) as target:
            target.write(bug_report(found).encode("utf-8", "replace"))
        out.say(f"report written to {report}")

    def render() -> None:
        render_report(out, found)
        if mended is not None:
            render_repair(out, mended, after, kept=kept)

    out.result(data, render, brief=found.verdict)
    code = after.exit_code if after is not None and kept else found.exit_code
    if code:
        raise typer.Exit(code)


def _require_report(path: Path) -> None:
    """Raise UsageError if `path` is a file that g4 did not write as a report: it would be lost."""
    from g4cli.core.files import open_file
    from g4cli.doctor.bug_report import HEADING

    if path.is_file() and path.stat().st_size:
        with open_file(path) as file:
            if file.read(len(HEADING)) != HEADING.encode():
                raise UsageError(
                    f"{path} exists and is not a report of g4",
                    hint="--report with the name of a new file",
                )
