"""Faults of characters, references, comments and attributes, which do not depend on nesting."""

from __future__ import annotations

import html.entities
import re
from collections.abc import Iterator, Mapping
from typing import Final

from g4cli.svg.names import canonical_attribute, canonical_element
from g4cli.svg.rules import Edit, Fault
from g4cli.svg.tokens import Attribute, Token, Tokenizer

# Characters that XML does not allow (XML 1.0, section 2.2).
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REFERENCE: Final = re.compile(
    r"&(?:#([0-9]{1,9}|[xX][0-9A-Fa-f]{1,8});|([A-Za-z_][A-Za-z0-9_.-]{0,40});)?"
)
_CDATA_END: Final = re.compile("]]>")  # not allowed in text
_LESS_THAN: Final = re.compile("<")
_XML_ENTITIES: Final[Mapping[str, str]] = {
    "lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'",
}  # fmt: skip
_ESCAPES: Final = {"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;", "'": "&apos;"}
_ENCODING: Final = re.compile(r"""\sencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_DECLARATION: Final = re.compile(
    r"""<\?xml\s+version\s*=\s*(["'])1\.[0-9]+\1"""
    r"""(\s+encoding\s*=\s*(["'])[A-Za-z][A-Za-z0-9._-]*\3)?"""
    r"""(\s+standalone\s*=\s*(["'])(yes|no)\5)?\s*\?>"""
)
_UTF_8: Final = ("utf-8", "utf8", "us-ascii", "ascii")
# An entity as editors declare them for namespaces: no markup, no references, and short, so that
# many uses of it are harmless.
_ENTITY: Final = re.compile(
    r"""\s*<!ENTITY\s+([A-Za-z_][\w.-]*)\s+(?:"([^"<>&%]{0,200})"|'([^'<>&%]{0,200})')\s*>"""
)
# The document types that drawings have. A parser might fetch any other system identifier.
_W3_ADDRESS: Final = r"""(?:"https?://www\.w3\.org/[\w./-]*"|'https?://www\.w3\.org/[\w./-]*')"""
_DOCTYPE: Final = re.compile(
    rf"""<!DOCTYPE\s+(?:[A-Za-z_][\w.-]*:)?svg
    (?:\s+(?:PUBLIC\s+(?:"[-\w\ ./]*"|'[-\w\ ./]*')|SYSTEM)\s+{_W3_ADDRESS})?\s*(?:\[.*\]\s*)?>""",
    re.DOTALL | re.VERBOSE | re.ASCII,
)
# A namespace declared as the default of an attribute, as editors did in 2001.
_NAMESPACE_DEFAULT: Final = re.compile(
    r"""\s*<!ATTLIST\s+[\w:.-]+\s+xmlns(?::[\w.-]+)?\s+CDATA\s+\#FIXED\s+"[^"<>&%]{0,200}"\s*>"""
)
# What a document type declares itself, between brackets.
_INTERNAL_SUBSET: Final = re.compile(r"\[(.*)\]", re.DOTALL)


def check_characters(text: str) -> list[Fault]:
    """Return a fault for every character that XML does not allow; the repair removes it."""
    return [
        Fault("control-character", found.start(), f"U+{ord(found[0]):04X}", (Edit(*found.span()),))
        for found in _NOT_XML.finditer(text)
    ]


def read_entities(doctype: str) -> dict[str, str] | None:
    """Return the harmless entities that a document type declares, None if it declares more.

    Harmful are defaults of attributes other than namespaces (they could add an event handler),
    entities made of others (they can grow exponentially) and entities in other files.
    """
    subset = _INTERNAL_SUBSET.search(doctype)
    if not subset:
        return {}
    entities: dict[str, str] = {}
    offset = 0
    while found := _ENTITY.match(subset[1], offset) or _NAMESPACE_DEFAULT.match(subset[1], offset):
        if found.re is _ENTITY:
            entities.setdefault(found[1], found[2] if found[2] is not None else found[3])
        offset = found.end()
    return None if subset[1][offset:].strip() else entities


def replace_references(value: str, entities: Mapping[str, str]) -> str:
    """Return text or an attribute's value with references such as &lt; replaced by characters."""

    def replace_one(found: re.Match[str]) -> str:
        if found[1]:
            number = found[1]
            code = int(number[1:], 16) if number[0] in "xX" else int(number)
            return chr(code) if code <= 0x10FFFF else ""
        name = found[2] or ""
        return _XML_ENTITIES.get(name) or entities.get(name) or found[0]

    return _REFERENCE.sub(replace_one, value) if "&" in value else value


def escape_text(text: str) -> str:
    """Return `text` escaped for XML, also for a value in double quotes."""
    return re.sub('[<>&"]', lambda found: _ESCAPES[found[0]], text)


def check_markup(tokenizer: Tokenizer) -> list[Fault]:
    """Return the faults of all tokens, those of the tokenizer first."""
    text, tokens = tokenizer.text, tokenizer.tokens
    faults = list(tokenizer.faults)
    entities: Mapping[str, str] = {}
    for token in tokens:
        if token.kind == "doctype":
            written = text[token.start : token.end]
            entities = read_entities(written) or {}
            if not _DOCTYPE.fullmatch(written):
                what = "the document type"
                faults.append(Fault("bogus-markup", token.start, what, (token.removal,)))
        elif token.kind == "text":
            faults += _check_references(text, token.start, token.end, entities)
            faults += [
                Fault("cdata-end", found.start(), "", (Edit(found.end() - 1, found.end(), "&gt;"),))
                for found in _CDATA_END.finditer(text, token.start, token.end)
            ]
        elif token.kind == "instruction" and token.name.lower() == "xml":
            faults += _check_declaration(text, token)
        elif token.kind == "start":
            faults += _check_name_case(token, token.start + 1)
            faults += _check_attributes(text, token, entities)
        elif token.kind == "end":
            faults += _check_name_case(token, token.start + 2)
    return faults


def _check_name_case(token: Token, start: int) -> Iterator[Fault]:
    """Yield the fault of a tag whose name, at offset `start`, SVG writes in another case."""
    canonical = canonical_element(token.name)
    if canonical != token.name:
        edit = Edit(start, start + len(token.name), canonical)
        yield Fault("name-case", token.start, f"element {token.name}", (edit,))


def _check_references(
    text: str, start: int, end: int, entities: Mapping[str, str]
) -> Iterator[Fault]:
    """Yield a fault for every & from `start` to `end` that is not a reference in XML."""
    for found in _REFERENCE.finditer(text, start, end):
        number, name = found.groups()
        span = found.span()
        if number:
            shown = replace_references(found[0], {})
            # HTML knows &#X41; too, XML only &#x41;.
            if not shown or _NOT_XML.match(shown) or number.startswith("X"):
                right = f"&#x{number[1:]};" if shown and not _NOT_XML.match(shown) else ""
                yield Fault("character-reference", span[0], found[0], (Edit(*span, right),))
        elif name is None:
            yield Fault("ampersand", span[0], "", (Edit(span[0], span[0] + 1, "&amp;"),))
        elif name not in _XML_ENTITIES and name not in entities:
            char = html.entities.html5.get(f"{name};")
            right = f"&amp;{name};" if char is None else "".join(_ESCAPES.get(c, c) for c in char)
            rule = "ampersand" if char is None else "html-entity"
            yield Fault(rule, span[0], f"&{name};", (Edit(*span, right),))


def _check_declaration(text: str, token: Token) -> Iterator[Fault]:
    """Yield the faults of an XML declaration: its place, its form, its encoding."""
    written = text[token.start : token.end]
    encoding = _ENCODING.search(written)
    first = 1 if text.startswith("\ufeff") else 0  # a byte order mark may come before it
    if token.start > first:
        is_after_space = not text[first : token.start].strip()
        edit = Edit(first, token.start) if is_after_space else token.removal
        yield Fault("declaration", token.start, "is not the first thing in the file", (edit,))
    elif token.name != "xml" or not _DECLARATION.fullmatch(written):
        yield Fault("declaration", token.start, "is wrong", (token.removal,))
    elif encoding and encoding[1].lower() not in _UTF_8:
        edit = Edit(token.start + encoding.start(1), token.start + encoding.end(1), "UTF-8")
        yield Fault("encoding", token.start, encoding[1], (edit,))


def _check_attributes(text: str, token: Token, entities: Mapping[str, str]) -> Iterator[Fault]:
    """Yield the faults of a tag's attributes: given twice, in another case, wrong characters."""
    seen: dict[str, Attribute] = {}
    for attribute in token.attributes:
        name = attribute.name
        canonical = canonical_attribute(name)
        if name in seen:
            # Of attributes with the same name the first counts (HTML standard, 13.2.5.33).
            first, second = (
                replace_references(item.value, entities) for item in (seen[name], attribute)
            )
            rule = "duplicate-attribute" if first == second else "conflicting-attribute"
            detail = f"{name} of <{token.name}>"
            yield Fault(rule, attribute.start, detail, (attribute.removal,))
            continue
        seen[name] = attribute
        if canonical != name:
            edit = Edit(attribute.start, attribute.start + len(name), canonical)
            yield Fault("name-case", attribute.start, f"attribute {name}", (edit,))
        begin, end = attribute.value_start, attribute.value_start + len(attribute.value)
        yield from _check_references(text, begin, end, entities)
        for found in _LESS_THAN.finditer(text, begin, end):
            yield Fault("less-than", found.start(), "", (Edit(*found.span(), "&lt;"),))
