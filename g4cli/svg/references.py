"""Faults of namespaces, ids and references: url(#x) and href="#x"."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from g4cli.svg.names import (
    ANIMATIONS,
    NAMESPACES,
    PRESENTATION,
    SVG_NAMESPACE,
    XLINK_NAMESPACE,
    local_name,
)
from g4cli.svg.rules import Edit, Fault
from g4cli.svg.tokens import Attribute
from g4cli.svg.tree import Element

_URL: Final = re.compile(r"""url\(\s*["']?\s*#([^"')\s]*)\s*["']?\s*\)""", re.IGNORECASE)
_HEX_COLOR: Final = re.compile(r"#(?:[0-9A-Fa-f]{3,4}|[0-9A-Fa-f]{6}|[0-9A-Fa-f]{8})")
# Attributes that refer to an element with url(#x); a bare #x is a common mistake there.
_REFERRING: Final = frozenset(
    ("fill", "stroke", "filter", "clip-path", "mask", "marker-start", "marker-mid", "marker-end")
)
# An undeclared prefix that is not in NAMESPACES is declared with this URN and its own name.
_UNDECLARED: Final = "urn:undeclared:"
_DECLARING: Final = "xmlns:"  # the prefix of attributes that declare a namespace
# Only the prefixes xml and xmlns may have these (Namespaces in XML 1.0, section 3).
_XML: Final = "http://www.w3.org/XML/1998/namespace"
_RESERVED: Final = (_XML, "http://www.w3.org/2000/xmlns/")


def check_namespaces(elements: list[Element]) -> list[Fault]:
    """Return the faults of a well-formed drawing's namespaces. All of them can be repaired."""
    root = elements[0]
    faults: list[Fault] = []
    if root.name == "svg" and "xmlns" not in root.attributes:
        edit = Edit(root.name_end, root.name_end, f' xmlns="{SVG_NAMESPACE}"')
        faults.append(Fault("no-namespace", root.start.start, "", (edit,)))
    declared: dict[int, frozenset[str]] = {}
    missing: dict[str, int] = {}  # undeclared prefix -> offset of the first tag that uses it
    # All prefixes in names, "" included.
    used = {name.rpartition(":")[0] for e in elements for name in (e.name, *e.attributes)}
    for element in elements:
        # These two need no declaration.
        above = declared[id(element.parent)] if element.parent else frozenset(("xml", "xmlns"))
        own = {
            name.removeprefix(_DECLARING)
            for name in element.attributes
            if name.startswith(_DECLARING)
        }
        declared[id(element)] = in_scope = above | own if own else above
        if element.name.startswith(_DECLARING):
            faults.append(_check_reserved(element))
            continue
        for name in (element.name, *element.attributes):
            prefix = name.rpartition(":")[0]
            if prefix and prefix not in in_scope:
                missing.setdefault(prefix, element.start.start)
        faults += _check_bindings(element, used)
    for prefix, offset in missing.items():
        address = NAMESPACES.get(prefix, f"{_UNDECLARED}{prefix}")
        edit = Edit(root.name_end, root.name_end, f' xmlns:{prefix}="{address}"')
        faults.append(Fault("undeclared-prefix", offset, prefix, (edit,)))
    return faults


def _check_reserved(element: Element) -> Fault:
    """Return the fault of an element with the prefix xmlns.

    The repair removes its tags; those of the root lose only the prefix.
    """
    edits = element.remove_tags()
    if element.parent is None:
        names = [edit.start + n for edit, n in zip(edits, (len("<"), len("</")), strict=False)]
        edits = tuple(Edit(offset, offset + len(_DECLARING)) for offset in names)
    return Fault("reserved-prefix", element.start.start, element.name, edits)


def _check_bindings(element: Element, used: set[str]) -> Iterator[Fault]:
    """Yield the faults of an element's namespace declarations: wrong or empty namespaces.

    `used` are the prefixes of all names: what another prefix stands for does not matter.
    """
    for attribute in element.start.attributes:
        name, value = attribute.name, element.attributes[attribute.name]
        is_svg = name == "xmlns" and element.name == "svg"
        # The namespace that this attribute must declare; "" if it may declare any.
        right = SVG_NAMESPACE if is_svg or (name == "xmlns:svg" and "svg" in used) else ""
        right = XLINK_NAMESPACE if name == "xmlns:xlink" and "xlink" in used else right
        if name == "xmlns:xml" and value == _XML:
            continue
        if not right and name.startswith(_DECLARING) and (not value or value in _RESERVED):
            prefix = name.removeprefix(_DECLARING)
            right = NAMESPACES.get(prefix, f"{_UNDECLARED}{prefix}")
        if right and value != right:
            yield Fault("wrong-namespace", attribute.start, name, (attribute.replace_value(right),))
        elif name in ("xmlns:xml", "xmlns:xmlns"):  # these two cannot be declared
            yield Fault("wrong-namespace", attribute.start, name, (attribute.removal,))


def check_references(elements: list[Element]) -> list[Fault]:
    """Return the faults of ids given twice and of references to ids that do not exist."""
    ids: set[str] = set()
    faults: list[Fault] = []
    for element in elements:
        if "id" in element.attributes:
            name = element.attributes["id"].strip()
            if name in ids and name:
                faults.append(Fault("duplicate-id", element.start.start, name))
            ids.add(name)
    for element in elements:
        for attribute in element.start.attributes:
            faults += _check_value(element, attribute, ids)
    return faults


def _check_value(element: Element, attribute: Attribute, ids: set[str]) -> Iterator[Fault]:
    """Yield the references of an attribute that lead nowhere."""
    name, offset = attribute.name, attribute.value_start
    value = element.attributes[name]
    if name in PRESENTATION or name == "style":
        for found in _URL.finditer(value):
            # In fill="url(#a) red" the color is a fallback.
            if found[1] not in ids and not value[found.end() :].strip().strip(";"):
                yield Fault("unresolved-reference", offset, found[0])
    if local_name(name) == "href" and value.strip().startswith("#"):
        target = value.strip()[1:]
        # The id in a link may be one of the page around the drawing, and an animation whose target
        # is absent changes nothing.
        if target and target not in ids and local_name(element.name) not in ANIMATIONS | {"a"}:
            yield Fault("unresolved-reference", offset, f'{name}="{value.strip()}"')
    elif (
        name in _REFERRING
        and value.startswith("#")
        and value[1:] in ids
        and not _HEX_COLOR.fullmatch(value)
    ):
        end = offset + len(attribute.value)  # `value` is shorter where it has references
        edits = (Edit(offset, offset, "url("), Edit(end, end, ")"))
        yield Fault("reference-without-url", offset, f'{name}="{value}"', edits)
