"""The frame of a drawing, which is the part of the plane that it shows (SVG's viewport).

It follows from viewBox, width and height; without them it is estimated from the shapes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from g4cli.svg.geometry import (
    IDENTITY,
    Box,
    Matrix,
    Point,
    box_around,
    multiply_matrices,
    parse_length,
    parse_numbers,
    parse_path,
    parse_transform,
    transform_point,
)
from g4cli.svg.names import GRADIENTS, SVG_NAMESPACE, local_name
from g4cli.svg.rules import Edit, Fault, apply_edits
from g4cli.svg.tree import Element

# Drawn only where something refers to it, or never.
_NOT_DRAWN: Final = GRADIENTS | frozenset(
    ("clipPath", "defs", "filter", "marker", "mask", "metadata", "pattern", "style", "symbol")
)
_UNITS: Final = re.compile(r"(?<=[0-9.])\s*(?:px|pt|%)")  # a viewBox must not have any
_LETTER_WIDTH: Final = 0.6  # relative to the font size, in an average font
_DEFAULT_FONT_SIZE: Final = 16.0  # pixels, as browsers have it


@dataclass(frozen=True, slots=True)
class Frame:
    """The visible part of a drawing: `view_box` is left, top, width, height in user units.

    `width` and `height` are in pixels.
    """

    view_box: tuple[float, float, float, float]
    width: float
    height: float


def check_frame(elements: list[Element]) -> list[Fault]:
    """Return what is wrong with viewBox, width and height of the root element."""
    root = elements[0]
    attributes = root.attributes
    if "viewBox" in attributes:
        return list(_check_view_box(root))
    sizes = [attributes.get(name, "") for name in ("width", "height")]
    if all(parse_length(size) is not None for size in sizes):
        return [Fault("no-view-box", root.start.start)]
    box = find_drawn_box(elements)
    if box is None or box.left == box.right or box.top == box.bottom:
        return [Fault("no-view-box", root.start.start)]
    # Most drawings begin at the origin, with a margin that the shapes do not show.
    box = Box(min(box.left, 0.0), min(box.top, 0.0), box.right, box.bottom)
    text = box.as_view_box()
    edit = Edit(root.name_end, root.name_end, f' viewBox="{text}"')
    return [Fault("no-frame", root.start.start, text, (edit,))]


def _check_view_box(root: Element) -> Iterator[Fault]:
    written = next(item for item in root.start.attributes if item.name == "viewBox")
    value = root.attributes["viewBox"]
    if is_view_box(value):
        return
    plain = _UNITS.sub("", value)
    if is_view_box(plain):
        yield Fault("view-box-units", written.start, value, (written.replace_value(plain),))
    else:
        yield Fault("bad-view-box", written.start, f'"{value[:40]}"')


def is_view_box(text: str) -> bool:
    """Return whether `text` is four finite numbers, of which the last two are above zero."""
    numbers = parse_numbers(text)
    return (
        numbers is not None
        and len(numbers) == 4
        and all(map(math.isfinite, numbers))
        and min(numbers[2:]) > 0
    )


def read_frame(elements: list[Element]) -> Frame:
    """Return the frame that the root element gives, else 300 x 150 (CSS 2, 10.3.2)."""
    attributes = elements[0].attributes
    width = parse_length(attributes.get("width", "")) or 0.0
    height = parse_length(attributes.get("height", "")) or 0.0
    box = attributes.get("viewBox", "")
    if is_view_box(box):
        left, top, box_width, box_height = parse_numbers(box) or []
        if not width and not height:
            width, height = box_width, box_height
        width = width or height * box_width / box_height
        height = height or width * box_height / box_width
        # The quotient of extreme numbers may be too large for a float.
        width, height = (size if math.isfinite(size) else 0.0 for size in (width, height))
        return Frame((left, top, box_width, box_height), width, height)
    width, height = width or 300.0, height or 150.0
    return Frame((0.0, 0.0, width, height), width, height)


def widen_frame(text: str, elements: list[Element], frame: Frame) -> str:
    """Return the drawing `text` with a frame three times as wide and high, centered on the old one.

    A rendering of it shows what lies outside of the frame; its middle ninth is the drawing itself.
    """
    root = elements[0]
    left, top, width, height = frame.view_box
    # The drawing becomes an element of a new root, with the same namespace prefix.
    prefix = root.name.removesuffix("svg").rstrip(":")
    declaration = f"xmlns:{prefix}" if prefix else "xmlns"
    outer = (
        f'<{root.name} {declaration}="{SVG_NAMESPACE}" width="{3 * frame.width}" '
        f'height="{3 * frame.height}" preserveAspectRatio="none" '
        f'viewBox="{left - width} {top - height} {3 * width} {3 * height}">'
    )
    inner = (
        f' x="{left}" y="{top}" width="{width}" height="{height}" '
        f'viewBox="{left} {top} {width} {height}" overflow="visible"'
    )
    replaced = ("x", "y", "width", "height", "viewBox", "overflow")
    edits = [item.removal for item in root.start.attributes if item.name in replaced]
    edits += [
        Edit(root.start.start, root.start.start, outer),
        Edit(root.name_end, root.name_end, inner),
        Edit(root.end.end, root.end.end, f"</{root.name}>"),
    ]
    return apply_edits(text, edits)[0]


def find_drawn_box(elements: list[Element]) -> Box | None:
    """Return a box around all shapes, without the width of strokes; None if there are none.

    It is an estimate: curves count with their control points, a text with one letter of average
    width (elements do not hold their texts), and the copies that <use> draws are left out.
    """
    matrices: dict[int, Matrix | None] = {}
    points: list[Point] = []
    for element in elements:
        above = matrices[id(element.parent)] if element.parent else IDENTITY
        hidden = local_name(element.name) in _NOT_DRAWN or above is None
        own = parse_transform(element.attributes.get("transform", "")) or IDENTITY
        matrix = None if hidden or above is None else multiply_matrices(above, own)
        matrices[id(element)] = matrix
        if matrix is not None and element.parent:
            points += [transform_point(matrix, point) for point in _find_corners(element)]
    return box_around(points)


def _find_corners(element: Element) -> list[Point]:
    """Return points whose bounding box is that of an element, before its transform."""
    name = local_name(element.name)

    def read_length(key: str) -> float:
        # Of a list, such as the positions of the letters of a text, the first.
        return parse_length(element.attributes.get(key, "").split(" ")[0]) or 0.0

    if name in ("circle", "ellipse"):
        x, y = read_length("cx"), read_length("cy")
        rx, ry = (
            (read_length("r"),) * 2 if name == "circle" else (read_length("rx"), read_length("ry"))
        )
        return [(x - rx, y - ry), (x + rx, y + ry), (x - rx, y + ry), (x + rx, y - ry)]
    if name in ("rect", "image"):
        x, y, width, height = (read_length(key) for key in ("x", "y", "width", "height"))
        return [(x, y), (x + width, y), (x, y + height), (x + width, y + height)]
    if name == "line":
        return [(read_length("x1"), read_length("y1")), (read_length("x2"), read_length("y2"))]
    if name == "path":
        points, _ = parse_path(element.attributes.get("d", ""))
        return points
    if name in ("polygon", "polyline"):
        numbers = parse_numbers(element.attributes.get("points", "")) or []
        return list(zip(numbers[::2], numbers[1::2], strict=False))
    if name == "text":
        x, y, size = (
            read_length("x"),
            read_length("y"),
            read_length("font-size") or _DEFAULT_FONT_SIZE,
        )
        return [(x, y - size), (x + size * _LETTER_WIDTH, y + size / 4)]
    return []
