"""Find out whether a drawing runs or loads anything, with parsers independent of g4.

A drawing is opened as a file, where XML's rules apply (expat), or is part of a web page, where
HTML's do (html5lib). The lists hold what a browser runs and loads, not what g4 searches for.
"""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree
from collections.abc import Iterator
from typing import Final

import html5lib

_RUNS: Final = {
    "script", "foreignobject", "iframe", "object", "embed", "handler", "listener", "link", "meta",
    "base", "img", "video", "audio", "form", "input", "button", "frame", "template", "noscript",
}  # fmt: skip
_IMAGE: Final = re.compile(r"data:image/(png|jpe?g|gif|webp);base64,", re.IGNORECASE)
_LOADS: Final = re.compile(
    r"@import(?![\w-])|(?<![\w-])url\(\s*[\"']?(?!\s*[\"']?\s*#)[^)]", re.IGNORECASE
)


def find_activity(text: str) -> str | None:
    """Return what a browser would run or load from a drawing, None if there is nothing."""
    for name, attributes, content in _elements(text):
        local = name.rpartition("}")[2].rpartition(":")[2].lower()
        if local in _RUNS:
            return f"<{local}>"
        if local == "style" and _LOADS.search(_unescape(content)):
            return f"<style>: {content!r}"
        for key, value in attributes.items():
            is_prefixed = "}" in key or ":" in key or key.startswith(("aria-", "data-"))
            key = str(key).rpartition("}")[2].rpartition(":")[2].lower()
            plain = re.sub(r"[\x00-\x20]", "", value)
            if key.startswith("on") or key == "base":
                return f"{key}={value!r}"
            is_image = local in ("image", "feimage") and _IMAGE.match(plain)
            if key in ("href", "src") and plain and plain[0] != "#" and not is_image:
                return f"{key}={value!r}"
            if not is_prefixed and key not in ("id", "class") and _LOADS.search(_unescape(value)):
                return f"{key}={value!r}"
            if key == "attributename" and local in ("set", "animate"):
                target = plain.rpartition(":")[2].lower()
                if target == "href" or target.startswith("on"):
                    return f"{local} of {value!r}"
    return None


def _elements(text: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield name, attributes and text of all elements, as XML and as HTML."""
    trees = [xml.etree.ElementTree.fromstring(text.encode())]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trees.append(html5lib.parse(f"<!DOCTYPE html><body>{text}"))
    for tree in trees:
        for element in tree.iter():
            if isinstance(element.tag, str):
                yield element.tag, dict(element.attrib), "".join(_texts(element))


def _texts(element: xml.etree.ElementTree.Element) -> Iterator[str]:
    """Yield the text inside an element, without comments, which itertext() would include."""
    yield element.text or ""
    for child in element:
        if isinstance(child.tag, str):
            yield from _texts(child)
        yield child.tail or ""


def _unescape(text: str) -> str:
    """Return a style with the escapes of CSS undone."""
    return re.sub(
        r"\\(?:([0-9A-Fa-f]{1,6})\s?|(.))",
        lambda found: found[2] or chr(min(int(found[1], 16), 0x10FFFF)),
        text,
    )
