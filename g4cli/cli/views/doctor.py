"""How a diagnosis looks on a terminal: the verdict first, then the worst findings, one screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.cli.output import Output
from g4cli.core.errors import UsageError
from g4cli.core.files import is_there
from g4cli.core.hub_name import is_on_hub
from g4cli.core.quoting import shell_word

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
    if is_on_hub(file):
        if depth != "quick":
            raise UsageError(
                "a file on the hub is examined by its header alone",
                hint=f"g4 doctor {shell_word(file)} --quick",
            )
        from g4cli.hub.remote_facts import remote_facts

        return judge(remote_facts(file), only), None
    path = Path(file)
    if not is_there(path):
        from g4cli.store.models import resolve

        path = resolve(file)
    with out.progress(f"examine {path.name}", unit="steps") as progress:
        return diagnose(path, depth=depth, only=only, progress=progress), path


def render_repair(out: Output, repair: Repair, after: Report | None, *, kept: bool) -> None:
    """Draw what was mended, and the diagnosis of the copy if it was kept."""
    if repair.done and not kept:
        verdict = verdict_text(after) if after is not None else ""
        out.line()
        out.line(f"no copy was kept: after the repair it would still be {verdict}", style="bold")
        after = None
    elif repair.done:
        out.line()
        out.line(f"mended copy: {repair.path}", style="bold green")
        for mended in repair.done:
            out.line(f"  {mended.text}")
    else:
        out.line("nothing was written: no change of metadata mends this file", style="bold")
    for first, last in repair.ranges[:8]:
        out.line(f"  fetch again: bytes {first}-{last}  (curl -r {first}-{last} URL)")
    if after is not None:
        out.line()
        render_report(out, after)


def verdict_text(report: Report) -> str:
    """Return the verdict as the screen shows it: 'FILE DAMAGED'."""
    return report.verdict.upper().replace("-", " ")


def render_report(out: Output, report: Report) -> None:
    """Draw the report on standard output."""
    good = report.exit_code == 0
    style = (
        "bold red" if not good else "bold green" if report.verdict == "healthy" else "bold yellow"
    )
    out.line(
        (verdict_text(report), style),
        f"  {report.subject}: {report.summary}",
        ("" if good else f"  (confidence: {report.confidence})", "dim"),
    )
    shown = [f for f in report.worst_first if f.status not in ("ok", "skipped")]
    # That other ways to run the file gave the same answer is what clears the engine.
    shown += [f for f in report.findings if shown and f.id == "probe.variants" and f.status == "ok"]
    passed = [f for f in report.worst_first if f.status == "ok" and f not in shown]
    if shown:
        _draw_findings(out, shown)
    elif passed:
        _draw_families(out, passed)
    rest = []
    if shown and passed:
        rest.append(f"{len(passed)} checks passed")
    skipped = [f for f in report.findings if f.status == "skipped"]
    for fix in dict.fromkeys(f.fix for f in skipped):
        alike = [f for f in skipped if f.fix == fix]
        why = f"not run: {fix}" if fix else "do not apply"
        rest.append(f"{len(alike)} {why} ({_ids(alike)})")
    if rest:
        out.line("; ".join(rest), style="dim")
    if report.fix:
        out.line(("next: ", "bold cyan"), report.fix)


def _draw_findings(out: Output, findings: list[Finding]) -> None:
    rows = [
        (_MARK[f.status][0], f.id, f.found if len(f.found) <= _SHORT else f.found[:_SHORT] + " ...")
        for f in findings
    ]
    out.table((), rows, whole=(0, 1), styles=[_MARK[f.status][1] for f in findings])


def _draw_families(out: Output, findings: list[Finding]) -> None:
    """Draw a row per family of passed checks: all of them are on one screen."""
    families: dict[str, list[str]] = {}
    for finding in findings:
        if finding.id not in _MINOR:
            families.setdefault(finding.id.split(".")[0], []).append(finding.found)
    rows = []
    for name, texts in families.items():
        if name == "machine":
            rows += [
                ("ok" if not i else "", name if not i else "", text) for i, text in enumerate(texts)
            ]
        else:
            shown = texts if len(texts) < 4 or name == "probe" else [texts[0], *texts[-2:]]
            rows.append(("ok", name, "; ".join(shown)))
    out.table((), rows, whole=(0, 1), styles=["green" if row[0] else "" for row in rows])


def _ids(findings: list[Finding]) -> str:
    names = list(dict.fromkeys(f.id.split(".")[0] for f in findings))
    return ", ".join(names)
