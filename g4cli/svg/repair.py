"""Check and repair a drawing: text in, findings and text out.

A drawing is repaired by edits to its text, so that correct parts stay unchanged, byte for byte. The
checks run in steps, from characters to meaning, because each relies on the previous one: names
cannot be matched in tags that do not end. The first step that edits anything ends the pass, and
the next pass starts again with the edited text. When a pass edits nothing, the text is repaired; so
a second repair changes nothing.
"""

from __future__ import annotations

import xml.parsers.expat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from g4cli.svg.answer import FoundDrawing, find_drawing
from g4cli.svg.frame import Frame, check_frame, read_frame, widen_frame
from g4cli.svg.markup import check_characters, check_markup
from g4cli.svg.references import check_namespaces, check_references
from g4cli.svg.rules import Edit, Fault, Finding, PositionMap, apply_edits
from g4cli.svg.safety import check_safety
from g4cli.svg.tokens import Tokenizer
from g4cli.svg.tree import Element, build_elements, check_nesting
from g4cli.svg.values import check_values

# Characters of a text: a choice, since a model's drawing has some thousand, an editor's a million.
TEXT_LIMIT: Final = 4 << 20
# resvg draws 200 levels and crashes at 300; browsers stop at 512.
DEPTH_LIMIT: Final = 200
# Each step needs a few passes at most; only a text that was made to need more does so.
_MAX_PASSES: Final = 40
# `count_drawn` stops here: nested <use> elements can draw 10^10 elements.
_MAX_COUNT: Final = 10**9


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawing that was checked and repaired.

    `text` is the repaired drawing, None if it cannot be repaired. `is_whole` tells whether it had a
    closing tag. The other fields describe the repaired drawing: its `frame`, `surroundings` (the
    drawing in a frame three times as wide and high), how many elements are drawn (`n_drawn`, with
    the copies made by <use>), and how deep they are nested (`depth`).
    """

    text: str | None
    findings: tuple[Finding, ...]
    is_whole: bool
    frame: Frame | None = None
    surroundings: str = ""
    n_drawn: int = 0
    depth: int = 0

    @property
    def unrepaired(self) -> tuple[Finding, ...]:
        """The findings that the repair left, without those of style."""
        return tuple(f for f in self.findings if not f.repaired and f.kind != "style")


def repair_drawing(answer: str) -> Drawing:
    """Return the drawing in a file or in a whole answer of a model, checked and repaired.

    Never raises, whatever the text; time and memory are linear in its length.
    """
    if len(answer) > TEXT_LIMIT:
        return _give_up("too-large", f"{TEXT_LIMIT:,}")
    found = find_drawing(answer)
    if found is None:
        return _give_up("no-drawing", "")
    text, positions = answer, PositionMap()
    faults: list[tuple[int, Fault]] = []

    def add_faults(new: Iterable[Fault]) -> None:
        faults.extend((positions.map_back(fault.offset), fault) for fault in new)

    first = _check_surroundings(answer, found)
    add_faults(first)
    text = _edit_text(text, first, positions)
    for _ in range(_MAX_PASSES):
        elements, broken = _check_in_steps(text)
        add_faults(fault for fault in broken if fault.edits)
        if not any(fault.edits for fault in broken):
            break
        text = _edit_text(text, broken, positions)
    else:
        return _give_up("bogus-markup", "the text")
    if not elements:
        return _give_up("no-drawing", "")
    add_faults(fault for fault in broken if not fault.edits)
    frame = read_frame(elements)
    depth = max(element.depth for element in elements)
    if depth > DEPTH_LIMIT:
        add_faults([Fault("too-deep", elements[0].start.start, f"{DEPTH_LIMIT}")])
    return Drawing(
        text=text,
        findings=_locate_faults(answer, faults),
        is_whole=found.is_whole,
        frame=frame,
        surroundings=widen_frame(text, elements, frame),
        n_drawn=count_drawn(elements),
        depth=depth,
    )


def _give_up(rule: str, detail: str) -> Drawing:
    """Return what could not be repaired, with the one rule that says why."""
    return Drawing(None, (Finding(rule, 1, 1, detail, False),), is_whole=False)


def _check_surroundings(answer: str, found: FoundDrawing) -> list[Fault]:
    """Return the text around the drawing as faults, whose repair removes it."""
    faults = []
    if found.count > 1:
        faults.append(Fault("other-drawing", found.start, str(found.count)))
    if not found.is_alone:
        around = (Edit(0, found.start), Edit(found.end, len(answer)))
        edits = tuple(edit for edit in around if edit.start != edit.end)
        faults.append(Fault("text-around", edits[0].start, "", edits))
    return faults


def _edit_text(text: str, faults: Iterable[Fault], positions: PositionMap) -> str:
    """Return the text with the edits of all faults; `positions` records them."""
    edited, made = apply_edits(text, [edit for fault in faults for edit in fault.edits])
    positions.add_pass(made)
    return edited


def _check_in_steps(text: str) -> tuple[list[Element], list[Fault]]:
    """Return the elements of a text, and the faults of the first step that edits anything.

    If none does, the faults are those that cannot be repaired.
    """
    faults = check_characters(text)
    if faults:
        return [], faults
    tokenizer = Tokenizer(text)
    for check in (check_markup, check_nesting):
        faults = check(tokenizer)
        if faults:
            return [], faults
    elements = build_elements(tokenizer)
    if not elements:
        return [], []
    steps: tuple[Callable[[], list[Fault]], ...] = (
        lambda: check_safety(tokenizer, elements),
        lambda: check_namespaces(elements),
        lambda: [*check_values(elements), *check_references(elements), *check_frame(elements)],
    )
    for step in steps:
        faults = step()
        if any(fault.edits for fault in faults):
            break
    return elements, faults


def _locate_faults(answer: str, faults: list[tuple[int, Fault]]) -> tuple[Finding, ...]:
    """Return faults, (offset in the answer, fault), as findings in the order of the text.

    Those with edits were repaired.
    """
    findings = []
    line, line_start, previous = 1, 0, 0
    for offset, fault in sorted(faults, key=lambda item: item[0]):
        offset = min(offset, len(answer))
        line += answer.count("\n", previous, offset)
        line_start = max(line_start, answer.rfind("\n", previous, offset) + 1)
        previous = offset
        column = offset - line_start + 1
        findings.append(Finding(fault.rule, line, column, fault.detail, bool(fault.edits)))
    return tuple(findings)


def count_drawn(elements: list[Element]) -> int:
    """Return how many elements a renderer draws when it replaces every <use>, 10^9 at most.

    A <use> of an element that contains it, which renderers refuse, counts once.
    """
    by_id: dict[str, Element] = {}
    for element in elements:
        by_id.setdefault(element.attributes.get("id", ""), element)
    counts: dict[int, int] = {}

    def count_inside(element: Element, pending: frozenset[int]) -> int:
        known = counts.get(id(element))
        if known is not None:
            return known
        if id(element) in pending or len(pending) > DEPTH_LIMIT:
            return 1
        inside = pending | {id(element)}
        total = 1 + sum(count_inside(child, inside) for child in element.children)
        for name in ("href", "xlink:href"):
            target = by_id.get(element.attributes.get(name, "").strip().lstrip("#"))
            if target is not None and element.name.endswith("use"):
                total += count_inside(target, inside)
        counts[id(element)] = min(total, _MAX_COUNT)
        return counts[id(element)]

    return count_inside(elements[0], frozenset())


def find_parse_error(text: str) -> str | None:
    """Return the error of expat, a strict XML parser, for a text; None if it accepts the text."""
    # No namespace can contain this separator.
    parser = xml.parsers.expat.ParserCreate(namespace_separator="\x0c")
    try:
        parser.Parse(text.encode("utf-8", "surrogatepass"), True)
    except xml.parsers.expat.ExpatError as err:
        return str(err)
    return None
