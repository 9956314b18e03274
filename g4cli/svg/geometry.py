"""Parse numbers, lengths, transforms and path data of SVG.

Grammars: SVG 1.1, section 8.3.9 (path data) and 7.6 (transforms). A renderer draws path data up to
the first error (SVG 2, section 9.5.4).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

Point: TypeAlias = tuple[float, float]
# a b c d e f of SVG's matrix(): x' = a x + c y + e, y' = b x + d y + f.
Matrix: TypeAlias = tuple[float, float, float, float, float, float]
IDENTITY: Final[Matrix] = (1, 0, 0, 1, 0, 0)

_NUMBER: Final = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
NUMBER: Final = re.compile(_NUMBER)
_LENGTH: Final = re.compile(
    rf"\s*({_NUMBER})(px|pt|pc|mm|cm|in|q|em|ex|rem|ch|vw|vh|vmin|vmax|%)?\s*", re.I | re.A
)
# Pixels per unit (CSS Values 3, section 6.2); relative units for a font size of 16 pixels.
_PIXELS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "": 1, "px": 1, "pt": 4 / 3, "pc": 16, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96,
        "q": 96 / 101.6, "em": 16, "ex": 8, "rem": 16, "ch": 8,
    }
)  # fmt: skip
# Renderers know the white space of ASCII alone: path data end at a no-break space.
_SEPARATOR: Final = re.compile(r"[\s,]*", re.A)
_FLAG: Final = re.compile(r"[01]")
# How many numbers a command of path data takes, and how many a transform may take.
_N_ARGUMENTS: Final[Mapping[str, int]] = MappingProxyType(
    {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7, "Z": 0}
)
_TRANSFORM: Final = re.compile(
    r"\s*,?\s*(matrix|translate|scale|rotate|skewX|skewY)\s*\(([^()]*)\)\s*", re.A
)
_N_TRANSFORM_ARGUMENTS: Final[Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "matrix": (6,),
        "translate": (1, 2),
        "scale": (1, 2),
        "rotate": (1, 3),
        "skewX": (1,),
        "skewY": (1,),
    }
)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle from (`left`, `top`) to (`right`, `bottom`) in user units."""

    left: float
    top: float
    right: float
    bottom: float

    def as_view_box(self) -> str:
        """Return the box as the value of viewBox, rounded outwards to whole units."""
        left, top = math.floor(self.left), math.floor(self.top)
        return f"{left} {top} {math.ceil(self.right) - left} {math.ceil(self.bottom) - top}"


def box_around(points: Iterable[Point]) -> Box | None:
    """Return the smallest box around all finite points, None if there are none."""
    finite = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not finite:
        return None
    xs, ys = [x for x, _ in finite], [y for _, y in finite]
    return Box(min(xs), min(ys), max(xs), max(ys))


def parse_length(text: str) -> float | None:
    """Return a length in pixels; None if it is invalid, infinite or relative (%, vw)."""
    found = _LENGTH.fullmatch(text)
    if not found:
        return None
    pixels = _PIXELS.get((found[2] or "").lower())
    length = float(found[1]) * pixels if pixels is not None else math.inf
    return length if math.isfinite(length) else None


def is_length(text: str) -> bool:
    """Return whether `text` is a number, with or without a CSS unit."""
    return bool(_LENGTH.fullmatch(text))


def parse_numbers(text: str) -> list[float] | None:
    """Return the numbers of a list, separated by spaces or commas; None if it is not a list."""
    numbers, offset = [], _skip_separators(text, 0)
    while offset < len(text):
        found = NUMBER.match(text, offset)
        if not found:
            return None
        numbers.append(float(found[0]))
        offset = _skip_separators(text, found.end())
    return numbers


def parse_transform(text: str) -> Matrix | None:
    """Return a transform as a matrix; None if it is invalid."""
    total, offset = IDENTITY, 0
    if text.strip() in ("", "none"):
        return total
    while offset < len(text):
        found = _TRANSFORM.match(text, offset)
        numbers = parse_numbers(found[2]) if found else None
        if not found or numbers is None or len(numbers) not in _N_TRANSFORM_ARGUMENTS[found[1]]:
            return None
        total = multiply_matrices(total, _make_matrix(found[1], numbers))
        offset = found.end()
    return total


def _make_matrix(name: str, v: list[float]) -> Matrix:
    """Return the matrix of the transform `name` with the arguments `v`."""
    if name == "matrix":
        return (v[0], v[1], v[2], v[3], v[4], v[5])
    if name == "translate":
        return (1, 0, 0, 1, v[0], v[1] if len(v) > 1 else 0)
    if name == "scale":
        return (v[0], 0, 0, v[-1], 0, 0)
    angle = math.radians(v[0]) if math.isfinite(v[0]) else 0.0
    if name == "skewX":
        return (1, 0, math.tan(angle), 1, 0, 0)
    if name == "skewY":
        return (1, math.tan(angle), 0, 1, 0, 0)
    cos, sin = math.cos(angle), math.sin(angle)
    x, y = (v[1], v[2]) if len(v) == 3 else (0.0, 0.0)
    return (cos, sin, -sin, cos, x - cos * x + sin * y, y - sin * x - cos * y)


def multiply_matrices(first: Matrix, second: Matrix) -> Matrix:
    """Return the product: it applies `second` to a point, then `first`."""
    a, b, c, d, e, f = first
    p, q, r, s, t, u = second
    return (
        a * p + c * q, b * p + d * q, a * r + c * s, b * r + d * s,
        a * t + c * u + e, b * t + d * u + f,
    )  # fmt: skip


def transform_point(matrix: Matrix, point: Point) -> Point:
    """Return `point` transformed by `matrix`."""
    a, b, c, d, e, f = matrix
    x, y = point
    return a * x + c * y + e, b * x + d * y + f


def parse_path(data: str) -> tuple[list[Point], int | None]:
    """Return the points of path data, control points included, and the offset of the first error.

    Only points before the error are returned, in user units. The offset is None without an error.
    """
    points: list[Point] = []
    current = start = (0.0, 0.0)
    offset, command = _skip_separators(data, 0), ""
    while offset < len(data):
        # Numbers without a letter before them repeat the last command, but not a Z.
        if data[offset].upper() in _N_ARGUMENTS:
            command, offset = data[offset], _skip_separators(data, offset + 1)
            if not points and command not in "Mm":
                return points, offset - 1
        elif not command or command in "Zz":
            return points, offset
        read = _read_arguments(data, offset, command.upper())
        if read is None:
            return points, offset
        values, offset = read
        new = list(_points_of(command, values, current))
        current = start if command in "Zz" else new[-1]
        points += new
        if command in "Mm":
            # Further pairs of numbers after an M are lines.
            start, command = current, "L" if command == "M" else "l"
    return points, None


def _skip_separators(data: str, offset: int) -> int:
    found = _SEPARATOR.match(data, offset)
    return found.end() if found else offset


def _read_arguments(data: str, offset: int, command: str) -> tuple[list[float], int] | None:
    """Return the numbers of a command at `offset`, and where they end; None if one is wrong."""
    values = []
    for index in range(_N_ARGUMENTS[command]):
        # The two flags of an arc need no space after them: "a1 1 0 00 5 5".
        pattern = _FLAG if command == "A" and index in (3, 4) else NUMBER
        found = pattern.match(data, offset)
        if not found:
            return None
        values.append(float(found[0]))
        offset = _skip_separators(data, found.end())
    return values, offset


def _points_of(command: str, values: list[float], current: Point) -> Iterator[Point]:
    """Yield the points of a command with these arguments that begins at the point `current`."""
    x, y = current if command.islower() else (0.0, 0.0)
    kind = command.upper()
    if kind == "H":
        yield x + values[0], current[1]
    elif kind == "V":
        yield current[0], y + values[0]
    elif kind == "A":
        yield x + values[5], y + values[6]
    else:
        for index in range(0, len(values), 2):
            yield x + values[index], y + values[index + 1]
