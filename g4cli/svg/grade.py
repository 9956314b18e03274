"""The grade of a drawing: stages from "there is one" to "it shows something sensible"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from g4cli.core.png import Pixels
from g4cli.core.units import count_text
from g4cli.svg.repair import Drawing

# Share of the painted pixels in the frame below which a drawing is mostly invisible (a choice).
_MIN_IN_FRAME: Final = 0.5
_REFERENCE_RULES: Final = ("unresolved-reference", "reference-without-url", "duplicate-id")


@dataclass(frozen=True, slots=True)
class Proof:
    """The results of parsing and rendering a repaired drawing, None for what was not tried.

    `parse_error` and `render_error` are '' on success. `in_frame` is the share of the painted
    pixels that lie in the frame.
    """

    parse_error: str
    render_error: str | None = None
    is_blank: bool | None = None
    in_frame: float | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the grade; `passed` is None if it was not tried."""

    name: str
    passed: bool | None
    detail: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the stage as docs/reference/schemas/svg.json describes it."""
        return {"name": self.name, "passed": self.passed, "detail": self.detail}


def grade_drawing(drawing: Drawing, proof: Proof | None) -> tuple[Stage, ...]:
    """Return the stages of a drawing, in order. `proof` is None if it could not be repaired."""
    return tuple(_iter_stages(drawing, proof))


def _iter_stages(drawing: Drawing, proof: Proof | None) -> Iterator[Stage]:
    rules = {finding.rule for finding in drawing.findings}
    n_broken = sum(finding.kind == "xml" for finding in drawing.findings)
    n_unsafe = sum(finding.kind == "unsafe" for finding in drawing.findings)
    if "too-large" in rules:  # repair_drawing did not look for a drawing
        yield Stage("found", None, "the text is too large")
        return
    yield Stage("found", "no-drawing" not in rules)
    if "no-drawing" in rules:
        return
    yield Stage("complete", drawing.is_whole, "" if drawing.is_whole else "the answer was cut off")
    yield Stage("well-formed", not n_broken, _count_faults(n_broken))
    yield Stage("safe", not n_unsafe, _count_faults(n_unsafe))
    yield Stage("repaired", drawing.text is not None)
    if proof is None:
        return
    yield Stage("opens", not proof.parse_error, proof.parse_error)
    rendered = None if proof.render_error is None else not proof.render_error
    yield Stage("renders", rendered, proof.render_error or "")
    yield Stage("not blank", None if proof.is_blank is None else not proof.is_blank)
    share = proof.in_frame
    shown = "" if share is None else f"{share:.0%} of the painted area"
    yield Stage("in frame", None if share is None else share >= _MIN_IN_FRAME, shown)
    n_references = sum(finding.rule in _REFERENCE_RULES for finding in drawing.unrepaired)
    yield Stage("references", not n_references, _count_faults(n_references))


def _count_faults(count: int) -> str:
    return count_text(count, "fault") if count else ""


def is_blank(pixels: Pixels) -> bool:
    """Return whether all pixels are the same."""
    return pixels.rgba == pixels.rgba[:4] * (pixels.width * pixels.height)


def measure_frame(pixels: Pixels) -> float | None:
    """Return the share of painted pixels that lie in the frame, None if none is painted.

    `pixels` is a rendering of `Drawing.surroundings`, whose middle ninth is the frame.
    """
    width, height = pixels.width, pixels.height
    opacity = pixels.rgba[3::4]  # the fourth byte of each pixel
    left, right = width // 3, width - width // 3
    inside = painted = 0
    for y in range(height):
        row = opacity[y * width : (y + 1) * width]
        painted += width - row.count(0)
        if height // 3 <= y < height - height // 3:
            inside += right - left - row.count(0, left, right)
    return inside / painted if painted else None
