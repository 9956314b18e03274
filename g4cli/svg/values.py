"""Faults of names, numbers, path data and colors, which change the picture without an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from g4cli.svg.geometry import is_length, parse_numbers, parse_path, parse_transform
from g4cli.svg.names import ELEMENTS, PAINT_WORDS, SHAPES, local_name
from g4cli.svg.rules import Fault, shorten_detail
from g4cli.svg.tokens import Attribute
from g4cli.svg.tree import Element

_LENGTHS: Final = frozenset(
    [
        "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "width", "height",
        "stroke-width", "stroke-dashoffset", "stroke-miterlimit", "font-size",
    ]
)  # fmt: skip
# Attributes that in text elements hold a list: one length per letter.
_LISTS: Final = frozenset(("x", "y"))
_SIZES: Final = frozenset(("r", "rx", "ry", "width", "height", "stroke-width"))
# Values of a length that are no number (CSS keywords).
_LENGTH_WORDS: Final = frozenset(
    [
        "auto", "inherit", "initial", "unset", "larger", "smaller", "xx-small", "x-small", "small",
        "medium", "large", "x-large", "xx-large",
    ]
)  # fmt: skip
_UNIT_SPACE: Final = re.compile(r"\s*[+-]?[0-9.]+(\s+)(?:px|pt|pc|mm|cm|in|em|ex|rem|%)\s*", re.I)
_FUNCTION: Final = re.compile(r"\s*(?:calc|var|min|max|clamp|env)\(", re.I)
_TRANSFORMS: Final = frozenset(("transform", "gradientTransform", "patternTransform"))
# Units of CSS that leave the number as it is. Renderers ignore an attribute with any unit.
_TRANSFORM_UNITS: Final = re.compile(r"(?<=[0-9.])\s*(?:deg|px)", re.I)
_PAINTS: Final = frozenset(
    ("fill", "stroke", "stop-color", "flood-color", "lighting-color", "color")
)
_COLOR: Final = re.compile(
    r"#(?:[0-9a-f]{3}|[0-9a-f]{4}|[0-9a-f]{6}|[0-9a-f]{8})(?:\s+icc-color\(.*\))?"
    r"|url\(.*|(?:rgba?|hsla?|hwb|lab|lch|oklab|oklch|color|color-mix|var|device-cmyk|light-dark)"
    r"\(.*\)",
    re.IGNORECASE | re.DOTALL,
)
# Attributes that a shape needs to be drawn, unless an animation or a style gives them.
_NEEDED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "circle": ("r",), "rect": ("width", "height"), "path": ("d",),
        "polygon": ("points",), "polyline": ("points",),
    }
)  # fmt: skip
_VALUE_SHOWN: Final = 24  # characters of a value in a finding


def check_values(elements: list[Element]) -> list[Fault]:
    """Return the faults of names and values of a drawing's elements."""
    # A style sheet may give what attributes do not.
    has_styles = any(local_name(element.name) == "style" for element in elements)
    faults: list[Fault] = []
    metadata: set[int] = set()
    for element in elements:
        if local_name(element.name) == "metadata" or id(element.parent) in metadata:
            metadata.add(id(element))
        # Elements of other namespaces are an editor's data.
        if ":" in element.name and not element.name.startswith("svg:"):
            continue
        faults += _check_element(element, has_styles, id(element) in metadata)
        for attribute in element.start.attributes:
            faults += _check_attribute(element, attribute)
    return faults


def _check_element(element: Element, has_styles: bool, in_metadata: bool) -> Iterator[Fault]:
    name, offset = local_name(element.name), element.start.start
    above = local_name(element.parent.name) if element.parent else ""
    if name not in ELEMENTS and element.enclosing_text is None and not in_metadata:
        yield Fault("unknown-element", offset, element.name)
    if name in SHAPES and above in SHAPES | {"text", "tspan", "image", "use"}:
        yield Fault("misplaced-element", offset, f"{name}> inside of <{above}")
    missing = [key for key in _NEEDED.get(name, ()) if key not in element.attributes]
    if missing and not has_styles and "style" not in element.attributes and not element.children:
        yield Fault("missing-attribute", offset, f"<{name}> has no {' and no '.join(missing)}")


def _check_attribute(element: Element, attribute: Attribute) -> Iterator[Fault]:
    name, element_name = attribute.name, local_name(element.name)
    value, offset = element.attributes[name], attribute.value_start
    if name in _LENGTHS and not (name in _LISTS and element_name in ("text", "tspan", "altGlyph")):
        yield from _check_length(element, attribute)
    elif name in _TRANSFORMS:
        if parse_transform(value) is None:
            shown, plain = shorten_detail(value, _VALUE_SHOWN), _TRANSFORM_UNITS.sub("", value)
            if parse_transform(plain) is None:
                yield Fault("bad-transform", offset, shown)
            else:
                yield Fault("transform-units", offset, shown, (attribute.replace_value(plain),))
    elif name in _PAINTS:
        plain = value.strip()
        if plain.lower() not in PAINT_WORDS and not _COLOR.fullmatch(plain):
            yield Fault("bad-color", offset, f'{name}="{shorten_detail(value, _VALUE_SHOWN)}"')
    elif name == "d" and element_name == "path":
        _, error = parse_path(value) if value.strip() not in ("", "none") else ([], None)
        if error is not None:
            at = min(error, len(attribute.value))
            yield Fault("bad-path", offset + at, f"character {error + 1}")
    elif name == "points" and element_name in ("polygon", "polyline"):
        numbers = parse_numbers(value)
        if numbers is None or len(numbers) % 2:
            yield Fault("bad-points", offset, f'points="{shorten_detail(value, _VALUE_SHOWN)}"')


def _check_length(element: Element, attribute: Attribute) -> Iterator[Fault]:
    name, offset = attribute.name, attribute.value_start
    value = element.attributes[name]
    shown = f'{name}="{shorten_detail(value, _VALUE_SHOWN)}"'
    spaced = _UNIT_SPACE.fullmatch(value)
    if spaced:
        plain = value[: spaced.start(1)] + value[spaced.end(1) :]
        yield Fault("unit-space", offset, shown, (attribute.replace_value(plain),))
    elif not is_length(value) and value.strip() not in _LENGTH_WORDS and not _FUNCTION.match(value):
        yield Fault("bad-number", offset, f"{shown} of <{element.name}>")
    elif name in _SIZES and value.strip().startswith("-") and re.search("[1-9]", value):
        yield Fault("negative-size", offset, f"{shown} of <{element.name}>")
