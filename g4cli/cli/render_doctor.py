"""How a diagnosis looks on a terminal: the verdict first, then the worst findings, one screen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich import box
from rich.table import Table
from rich.text import Text

from g4cli.cli.output import Output, clean

if TYPE_CHECKING:
    from g4cli.doctor.report import Finding, Report

_MARK: Final = {
    "fail": ("FAIL", "bold red"),
    "crash": ("crash", "magenta"),
    "warn": ("warn", "yellow"),
    "skipped": ("skip", "dim"),
    "ok": ("ok", "green"),
}
_SHORT: Final = 420


def render_report(out: Output, report: Report) -> None:
    """Draw the report on standard output."""
    good = report.exit_code == 0
    head = Text()
    head.append(report.verdict.upper().replace("-", " "), style="bold green" if good else "bold red")
    head.append(f"  {clean(report.subject)}: {report.summary}")
    if not good:
        head.append(f"  (confidence: {report.confidence})", style="dim")
    out.draw(head)
    shown = [f for f in report.worst_first if f.status not in ("ok", "skipped")]
    passed = [f for f in report.worst_first if f.status == "ok"]
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
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    families: dict[str, list[str]] = {}
    for finding in findings:
        families.setdefault(finding.id.split(".")[0], []).append(clean(finding.found))
    for name, texts in families.items():
        shown = texts if len(texts) < 5 or name == "machine" else [*texts[:2], *texts[-2:]]
        row = "\n".join(texts) if name == "machine" else "; ".join(shown)
        table.add_row(Text("ok", style="green"), Text(name), Text(row))
    return table


def _ids(findings: list[Finding]) -> str:
    names = list(dict.fromkeys(f.id.split(".")[0] for f in findings))
    return ", ".join(names)
