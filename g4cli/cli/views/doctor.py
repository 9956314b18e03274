"""Draw a diagnosis on one screen: the verdict, the worst findings, and what to do next."""

from __future__ import annotations

from typing import Final

from g4cli.cli.output import Output
from g4cli.core.units import count_text
from g4cli.doctor.repair import Repair
from g4cli.doctor.report import Finding, Report
from g4cli.operations.diagnose import Diagnosis

_MARK: Final = {
    "fail": ("FAIL", "bold red"),
    "crash": ("crash", "magenta"),
    "warn": ("warn", "yellow"),
    "skipped": ("skip", "dim"),
    "ok": ("ok", "green"),
}
_MAX_FOUND: Final = 420  # characters of a finding: a choice, about five lines
_MAX_RANGES: Final = 8  # to download again; more are not typed by hand
# Passed checks that are left out of the screen of a healthy file; --json and --report have them.
_MINOR: Final = ("probe.loop", "probe.logits", "probe.tokens", "probe.formats", "file.magic")


def draw_diagnosis(out: Output, diagnosis: Diagnosis) -> None:
    """Draw the report; after a repair also its changes and the report on the repaired copy."""
    draw_report(out, diagnosis.report)
    after = diagnosis.repaired_report
    if diagnosis.repair is not None:
        _draw_repair(out, diagnosis.repair, after, is_kept=diagnosis.is_kept)
    if after is not None and diagnosis.is_kept:
        out.line()
        draw_report(out, after)


def _draw_repair(out: Output, repair: Repair, after: Report | None, *, is_kept: bool) -> None:
    if after is None:
        out.line("no copy was written: new metadata would not repair this file", style="bold")
    elif is_kept:
        out.line()
        out.line(f"repaired copy: {repair.path}", style="bold green")
        for change in repair.changes:
            out.line(f"  {change.text}")
    else:
        out.line()
        verdict = format_verdict(after)
        out.line(f"no copy was kept: after the repair it would still be {verdict}", style="bold")
    for first, last in repair.ranges[:_MAX_RANGES]:
        out.line(f"  download again: bytes {first}-{last}  (curl -r {first}-{last} URL)")


def format_verdict(report: Report) -> str:
    """Return the verdict as the screen shows it: 'FILE DAMAGED'."""
    return report.verdict.upper().replace("-", " ")


def draw_report(out: Output, report: Report) -> None:
    """Draw the verdict, the failures and warnings (or else the passed checks), and the advice."""
    is_sound = report.exit_code == 0
    healthy = "bold green" if report.verdict == "healthy" else "bold yellow"
    style = healthy if is_sound else "bold red"
    out.line(
        (format_verdict(report), style),
        f"  {report.subject}: {report.summary}",
        ("" if is_sound else f"  (confidence: {report.confidence})", "dim"),
    )
    shown = [f for f in report.worst_first if f.status not in ("ok", "skipped")]
    # A passed probe.configs stands with the failures: the same answer in other configurations of
    # llama.cpp proves that llama.cpp is not at fault.
    shown += [f for f in report.findings if shown and f.id == "probe.configs" and f.status == "ok"]
    passed = [f for f in report.worst_first if f.status == "ok" and f not in shown]
    if shown:
        _draw_findings(out, shown)
    elif passed:
        _draw_families(out, passed)
    rest = []
    if shown and passed:
        rest.append(f"{count_text(len(passed), 'check')} passed")
    skipped = [f for f in report.findings if f.status == "skipped"]
    for fix in dict.fromkeys(f.fix for f in skipped):
        same_fix = [f for f in skipped if f.fix == fix]
        does_not = "does not apply" if len(same_fix) == 1 else "do not apply"
        why = f"not run: {fix}" if fix else does_not
        rest.append(f"{len(same_fix)} {why} ({_list_families(same_fix)})")
    if rest:
        out.line("; ".join(rest), style="dim")
    if report.fix:
        out.line(("next: ", "bold cyan"), report.fix)


def _draw_findings(out: Output, findings: list[Finding]) -> None:
    rows = [
        (_MARK[f.status][0], f.id, f.found[:_MAX_FOUND] + " ..." * (len(f.found) > _MAX_FOUND))
        for f in findings
    ]
    out.table((), rows, whole=(0, 1), styles=[_MARK[f.status][1] for f in findings])


def _draw_families(out: Output, findings: list[Finding]) -> None:
    """Draw one row per family of passed checks, so that all families fit on one screen."""
    families: dict[str, list[str]] = {}
    families_shown = {f.id.split(".")[0] for f in findings if f.id not in _MINOR}
    for finding in findings:
        family = finding.id.split(".")[0]
        # With --only a family may have minor checks alone.
        if finding.id not in _MINOR or family not in families_shown:
            families.setdefault(family, []).append(finding.found)
    rows = []
    for name, texts in families.items():
        if name == "machine":
            rows += [
                ("ok" if not i else "", name if not i else "", text) for i, text in enumerate(texts)
            ]
        else:
            # Of a long family the first check and the last two tell most.
            shown = texts if len(texts) < 4 or name == "probe" else [texts[0], *texts[-2:]]
            rows.append(("ok", name, "; ".join(shown)))
    out.table((), rows, whole=(0, 1), styles=["green" if row[0] else "" for row in rows])


def _list_families(findings: list[Finding]) -> str:
    names = list(dict.fromkeys(f.id.split(".")[0] for f in findings))
    return ", ".join(names)
