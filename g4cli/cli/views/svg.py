"""What `g4 svg` shows of a drawing: its grade and what was found."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from g4cli.cli.output import Output
from g4cli.operations.svg import CheckedDrawing, describe_repair
from g4cli.svg.rules import KINDS, RULES

_MOST_SHOWN: Final = 40
_MARKS: Final = {True: "ok", False: "no", None: "not tried"}


def render_check(out: Output, checked: CheckedDrawing, *, repairs_made: bool) -> None:
    """Show the findings, the stages, and one sentence. `repairs_made`: the repaired copy was asked for."""
    drawing = checked.drawing
    rows = []
    for finding in drawing.findings[:_MOST_SHOWN]:
        message = RULES[finding.rule].message.replace("{}", finding.detail)
        repair = (
            describe_repair(finding.rule, finding.detail)
            if finding.repaired
            else "cannot be repaired"
        )
        if finding.kind == "style":
            repair = ""
        elif finding.repaired and not repairs_made:
            repair = "can be repaired"
        rows.append(
            (f"{finding.line}:{finding.column}", KINDS[finding.kind], message, repair, finding.rule)
        )
    if rows:
        out.table(["line", "", "found", "repair", "rule"], rows)
    if len(drawing.findings) > _MOST_SHOWN:
        out.line(f"and {len(drawing.findings) - _MOST_SHOWN} more (--json lists all)")
    for stage in checked.stages:
        if not stage.passed:
            out.line(
                f"{stage.name}: {_MARKS[stage.passed]}{f', {stage.detail}' if stage.detail else ''}"
            )
    out.line(f"{checked.name}: {summarize_check(checked)}")


def describe_saved(checked: CheckedDrawing, path: Path) -> str:
    """Return what became of the drawing that was to be saved at `path`."""
    summary = summarize_check(checked)
    return f"{path}: {summary}" if checked.works else f"{path} is not written: {summary}"


def summarize_check(checked: CheckedDrawing) -> str:
    """Return the state of a drawing in one sentence."""
    if checked.drawing.text is None:
        return "there is no drawing that could be repaired"
    n_repaired = sum(finding.repaired for finding in checked.drawing.findings)
    n_left = len(checked.drawing.unrepaired)
    faults = "1 fault" if n_repaired == 1 else f"{n_repaired} faults"
    if checked.is_flawless:
        return "nothing is wrong"
    if checked.is_repaired:
        return f"{faults}, all of them can be repaired"
    if not checked.works:
        return "it does not work after repair either"
    return f"{faults} can be repaired, {n_left} cannot"
