"""How a diagnosis looks on a terminal: the verdict first, then the worst findings, one screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table
from rich.text import Text

from g4cli.cli.output import Output, clean
from g4cli.core.errors import UsageError

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import Depth
    from g4cli.doctor.repair import Repair
    from g4cli.doctor.report import Finding, Report

_MARK: Final = {
    "fail": ("FAIL", "bold red"),
    "crash": ("crash", "magenta"),
    "warn": ("warn", "yellow"),
    "skipped": ("skip", "dim"),
    "ok": ("ok", "green"),
}
_SHORT: Final = 420
# Passed checks that a healthy file's screen has no room for; --json and --report hold them.
_MINOR: Final = ("probe.loop", "probe.logits", "probe.tokens", "probe.frames", "file.magic")


def examine(
    out: Output, file: str | None, depth: Depth, only: tuple[str, ...]
) -> tuple[Report, Path | None]:
    """Return the report on what the user named, and its path if it lies on this disk.

    Raises UsageError for an unknown check, and what finding the file raises.
    """
    from g4cli.doctor.checks.machine import diagnose_machine
    from g4cli.doctor.diagnose import diagnose, judge, known_ids

    known = known_ids(machine=file is None)
    unknown = sorted(set(only) - known)
    if unknown:
        families = " ".join(sorted(i for i in known if "." not in i))
        raise UsageError(f"unknown check: {', '.join(unknown)}", hint=f"families: {families}")
    if file is None:
        return diagnose_machine(only), None
    if file.startswith("hf:"):
        if depth != "quick":
            raise UsageError(
                "a file on the hub is examined by its header alone",
                hint=f"g4 doctor {file} --quick",
            )
        from g4cli.hub.remote_facts import remote_facts

        return judge(remote_facts(file), only), None
    path = Path(file)
    if not path.exists():
        from g4cli.store.models import resolve

        path = resolve(file)
    with out.progress(f"examine {path.name}", unit="steps") as progress:
        return diagnose(path, depth=depth, only=only, progress=progress), path


def render_repair(out: Output, repair: Repair, after: Report | None) -> None:
    """Draw what was mended, and the diagnosis of the copy."""
    if repair.done:
        out.line()
        out.line(f"mended copy: {repair.path}", style="bold green")
        for text in repair.done:
            out.line(f"  {text.split(': ', 1)[1]}")
    else:
        out.line("nothing was written: no change of metadata mends this file", style="bold")
    for first, last in repair.ranges[:8]:
        out.line(f"  fetch again: bytes {first}-{last}  (curl -r {first}-{last} URL)")
    if after is not None:
        out.line()
        render_report(out, after)


def render_report(out: Output, report: Report) -> None:
    """Draw the report on standard output."""
    good = report.exit_code == 0
    head = Text()
    head.append(
        report.verdict.upper().replace("-", " "), style="bold green" if good else "bold red"
    )
    head.append(f"  {clean(report.subject)}: {report.summary}")
    if not good:
        head.append(f"  (confidence: {report.confidence})", style="dim")
    out.draw(head)
    shown = [f for f in report.worst_first if f.status not in ("ok", "skipped")]
    # That other ways to run the file gave the same answer is what clears the engine.
    shown += [f for f in report.findings if shown and f.id == "probe.variants" and f.status == "ok"]
    passed = [f for f in report.worst_first if f.status == "ok" and f not in shown]
    if shown:
        out.draw(_table(shown))
    elif passed:
        out.draw(_families(passed))
    rest = []
    if shown and passed:
        rest.append(f"{len(passed)} checks passed")
    skipped = [f for f in report.findings if f.status == "skipped"]
    if skipped:
        rest.append(f"{len(skipped)} skipped ({_ids(skipped)})")
    if rest:
        out.draw(Text("; ".join(rest), style="dim"))
    if report.fix:
        out.draw(Text("next: ", style="bold cyan") + Text(clean(report.fix)))


def _table(findings: list[Finding]) -> Table:
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for finding in findings:
        word, style = _MARK[finding.status]
        found = clean(finding.found)
        table.add_row(
            Text(word, style=style),
            Text(finding.id, style="bold" if finding.status == "fail" else ""),
            Text(found if len(found) <= _SHORT else found[:_SHORT] + " ..."),
        )
    return table


def _families(findings: list[Finding]) -> Table:
    """Return one row per family of passed checks: all of them are on one screen."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    families: dict[str, list[str]] = {}
    for finding in findings:
        if finding.id not in _MINOR:
            families.setdefault(finding.id.split(".")[0], []).append(clean(finding.found))
    for name, texts in families.items():
        shown = texts if len(texts) < 4 or name in ("machine", "probe") else [texts[0], *texts[-2:]]
        row = "\n".join(texts) if name == "machine" else "; ".join(shown)
        table.add_row(Text("ok", style="green"), Text(name), Text(row))
    return table


def _ids(findings: list[Finding]) -> str:
    names = list(dict.fromkeys(f.id.split(".")[0] for f in findings))
    return ", ".join(names)
