"""The findings about a drawing and its grade, as `g4 svg` shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from g4cli.cli.output import Output
from g4cli.core.units import count_text
from g4cli.operations.svg import CheckedDrawing, describe_repair, save_drawing
from g4cli.svg.rules import KINDS, RULES, Finding

_MAX_SHOWN: Final = 40  # findings: a choice, one screen


def draw_check(out: Output, checked: CheckedDrawing, *, repairs_made: bool) -> None:
    """Draw the findings, the stages that failed, and a summary.

    With `repairs_made` the table says what each repair did, else only whether there is one.
    """
    drawing = checked.drawing
    rows = [
        (
            f"{finding.line}:{finding.column}",
            KINDS[finding.kind],
            RULES[finding.rule].message.replace("{}", finding.detail),
            _describe_state(finding, repairs_made=repairs_made),
            finding.rule,
        )
        for finding in drawing.findings[:_MAX_SHOWN]
    ]
    if rows:
        out.table(["line", "", "found", "repair", "rule"], rows)
    if len(drawing.findings) > _MAX_SHOWN:
        out.line(f"and {len(drawing.findings) - _MAX_SHOWN} more (--json lists all)")
    for stage in checked.stages:
        if not stage.passed:
            detail = f", {stage.detail}" if stage.detail else ""
            state = "not tried" if stage.passed is None else "no"
            out.line(f"{stage.name}: {state}{detail}")
    out.line(f"{checked.name}: {summarize_check(checked, repairs_made=repairs_made)}")


def _describe_state(finding: Finding, *, repairs_made: bool) -> str:
    if finding.kind == "style":  # advice, and no fault
        return ""
    if not finding.repaired:
        return "cannot be repaired"
    if not repairs_made:
        return "can be repaired"
    return describe_repair(finding.rule, finding.detail)


def save_if_it_works(out: Output, checked: CheckedDrawing, path: Path) -> None:
    """Write the drawing to `path` if it works after repair, and say so.

    Raises what save_drawing raises: a small picture may have worked where the full size does not.
    """
    summary = summarize_check(checked, repairs_made=True)
    if not checked.works:
        out.warn(f"{path} was not written: {summary}")
        return
    save_drawing(checked.drawing, path)
    out.say(f"{path}: {summary}")


def summarize_check(checked: CheckedDrawing, *, repairs_made: bool = False) -> str:
    """Return the state of a drawing in one sentence; `repairs_made` as in draw_check."""
    if checked.drawing.text is None:
        return "no drawing that can be repaired was found"
    n_repaired = sum(finding.repaired for finding in checked.drawing.findings)
    n_left = len(checked.drawing.unrepaired)
    faults = count_text(n_repaired, "fault")
    if checked.is_flawless:
        return "no faults"
    if checked.is_repaired:
        return f"{faults}, all repaired" if repairs_made else f"{faults}, all can be repaired"
    if not checked.works:
        return "the drawing does not work, even after repair"
    if repairs_made:
        return f"{faults} repaired, {n_left} cannot be repaired"
    return f"{faults} can be repaired, {n_left} cannot"
