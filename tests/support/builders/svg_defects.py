"""Correct drawings, and common defects to put into them.

A defect is an edit of a correct drawing by means of regular expressions, independent of g4's
tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tests.support.paths import TESTS

GOOD_FOLDER: Final = TESTS / "golden" / "svg"


class Defect(NamedTuple):
    """A way to break a drawing. `make` returns None if it does not apply to the drawing.

    `rule` is the finding that reports it. `restores` tells whether the repair can restore the
    picture; some defects lose information and can only be reported.
    """

    name: str
    make: Callable[[str], str | None]
    rule: str
    restores: bool = True


def good_drawings() -> Iterator[tuple[str, str]]:
    """Yield name and text of the good drawings."""
    for path in sorted(GOOD_FOLDER.glob("*.svg")):
        yield path.stem, path.read_text(encoding="utf-8")


def _sub(pattern: str, to: str | Callable[[re.Match[str]], str]) -> Callable[[str], str | None]:
    """Return a function that replaces the first match, and returns None without one."""

    def make(text: str) -> str | None:
        broken, n = re.subn(pattern, to, text, count=1)
        return broken if n else None

    return make


def _before_end(what: str) -> Callable[[str], str | None]:
    def make(text: str) -> str | None:
        at = text.rindex("</")
        return text[:at] + what + text[at:]

    return make


def _without_frame(text: str) -> str:
    """Return `text` without viewBox, width and height of its root element."""
    start = text.index("<svg")
    end = text.index(">", start)
    root = re.sub(r'\s(?:viewBox|width|height)="[^"]*"', "", text[start:end])
    return text[:start] + root + text[end:]


# A shape's tag up to the attribute that is about to be changed.
_SHAPE = r"(<(?:circle|rect|ellipse|line|path)\b)([^<>]*?)"
_IN_SHAPE = rf'{_SHAPE}(\s[a-z0-9-]+)="([^"<>]+)"'
_UNQUOTABLE = rf'{_SHAPE}(\s[a-z0-9-]+)="([\w.#-]+)"'

DEFECTS: Final[tuple[Defect, ...]] = (
    Defect("duplicate attribute, equal", _sub(_IN_SHAPE, r'\1\2\3="\4"\3="\4"'),
           "duplicate-attribute"),
    Defect("duplicate attribute, other value", _sub(_IN_SHAPE, r'\1\2\3="\4"\3="9"'),
           "conflicting-attribute"),
    Defect("xlink undeclared", lambda text: None if "xmlns:xlink" in text
           else _before_end('<use xlink:href="#none-such-xyz"/>')(text), "undeclared-prefix"),
    Defect("html entity", _before_end("<desc>a&nbsp;b</desc>"), "html-entity"),
    Defect("bare ampersand", _before_end("<desc>a & b</desc>"), "ampersand"),
    Defect("less-than in text", _before_end("<desc>1 < 2</desc>"), "less-than"),
    Defect("control character", _before_end("<desc>a\x08b</desc>"), "control-character"),
    Defect("mismatched close tag", _before_end("<g><desc>a</desc></group>"), "wrong-end-tag"),
    Defect("unclosed group", _before_end("<g>"), "not-closed"),
    Defect("extra close tag", _before_end("</g>"), "unmatched-end-tag"),
    Defect("two drawings", lambda text: f'<svg xmlns="http://www.w3.org/2000/svg"></svg>\n{text}',
           "other-drawing"),
    Defect("text after the root", lambda text: f"{text}\nThat is the drawing.", "text-around"),
    Defect("prose and a fence", lambda text: f"Here it is:\n```svg\n{text}```\nEnjoy!",
           "text-around"),
    Defect("unquoted value", _sub(_UNQUOTABLE, r"\1\2\3=\4"), "unquoted-value"),
    Defect("attribute without value", _sub(_SHAPE + r"(?=\s*/>)", r"\1\2 hidden-xyz"),
           "missing-value"),
    Defect("no space between attributes", _sub(rf'{_SHAPE}="([^"<>]*)"\s+(?=[a-z])', r'\1\2="\3"'),
           "missing-space"),
    Defect("typographic quotes", _sub(_IN_SHAPE, r"\1\2\3=“\4”"), "typographic-quotes"),
    Defect("missing end quote", _sub(_IN_SHAPE + r"(?=\s+[a-z])", r'\1\2\3="\4'), "missing-quote"),
    Defect("shape without slash", _sub(_SHAPE + r"\s*/>", r"\1\2>"), "shape-not-closed"),
    Defect("dashes in a comment", _before_end("<!-- a -- b -->"), "comment-dashes"),
    Defect("name with a space", _sub(r'stroke-width="', 'stroke width="'), "split-name"),
    Defect("cut off in an attribute", lambda text: text + '<svg><rect width="1', "text-around"),
    Defect("cut off before the end", _sub(r"\s*</svg>\s*\Z", ""), "not-closed"),
    Defect("duplicate xmlns", _sub(r'(\sxmlns="[^"]*")', r"\1\1"), "duplicate-attribute"),
    Defect("no xmlns", _sub(r'\sxmlns="[^"]*"', ""), "no-namespace"),
    Defect("viewbox in lower case", _sub("viewBox", "viewbox"), "name-case"),
    Defect("gradient in lower case", lambda text: text.replace("linearGradient", "lineargradient")
           if "linearGradient" in text else None, "name-case"),
    Defect("bad path data", _sub(r'(\sd="[^"]*)"', r'\1 L"'), "bad-path", restores=False),
    Defect("odd argument count", _sub(r'(\sd="[^"]*?[0-9])"', r'\1 L 5"'), "bad-path",
           restores=False),
    Defect("negative radius", _sub(r'\sr="', ' r="-'), "negative-size", restores=False),
    Defect("reference to nothing", _sub(r"url\(#[^)]*\)", "url(#nope-xyz)"), "unresolved-reference",
           restores=False),
    Defect("duplicate id", lambda text: _before_end(f"<g{found[0]}/>")(text)
           if (found := re.search(r'\sid="[^"]*"', text)) else None, "duplicate-id",
           restores=False),
    Defect("space before the unit", _sub(r'(stroke-width="[0-9.]+)"', r'\1 px"'), "unit-space"),
    Defect("units of a transform", _sub(r'(\stransform="[^"]*rotate\([-0-9.]+)', r"\1deg"),
           "transform-units"),
    Defect("neither viewBox nor size", _without_frame, "no-frame", restores=False),
    Defect("script", _before_end("<script>alert(1)</script>"), "active-element"),
    Defect("event handler", _sub("<svg", '<svg onload="alert(1)"'), "event-handler"),
    Defect("entity bomb", lambda text: '<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
           + text, "entity-declaration"),
)  # fmt: skip
