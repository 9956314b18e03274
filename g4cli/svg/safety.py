"""What a drawing must not do: run programs, load anything from outside, become HTML in a web page.

Browsers show a drawing alone or inside of a page, where SVG can do nearly all that HTML can. A list
of forbidden spellings would never be complete, so the rules go by position: every element by its
name without prefix and case, every attribute that begins with "on", every value of a link, every
url() of a style. Values are checked with references replaced and CSS escapes undone. Where a web
page does not parse the text as XML (inside <title> and <desc>), all markup is removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from g4cli.svg.markup import escape_text, read_entities, replace_references
from g4cli.svg.names import ANIMATIONS, HTML_ELEMENTS, local_name
from g4cli.svg.rules import Edit, Fault, shorten_detail
from g4cli.svg.tokens import Token, Tokenizer, strip_cdata_marks
from g4cli.svg.tree import Element, entities_of

# Elements that are removed with their content.
_ACTIVE: Final = frozenset(
    [
        "applet", "audio", "base", "button", "canvas", "dialog", "embed", "foreignobject", "form",
        "frame", "frameset", "handler", "iframe", "input", "link", "listener", "marquee", "math",
        "meta", "noembed", "noframes", "noscript", "object", "plaintext", "portal", "script",
        "select", "slot", "template", "textarea", "video", "xmp",
    ]
)  # fmt: skip
# Attributes with which a web page takes <font> for HTML. An SVG font has none of them.
_HTML_FONT: Final = frozenset(("color", "face", "size"))
_ANIMATIONS: Final = frozenset(name.lower() for name in ANIMATIONS)
_LINKS: Final = frozenset(("href", "src"))
_IMAGE_DATA: Final = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,[A-Za-z0-9+/=\s]*", re.I)
# Attributes that never hold a style.
_NO_STYLE: Final = re.compile(r"id|class|lang|.*:.*|aria-.*|data-.*")
_CSS_ESCAPE: Final = re.compile(r"\\(?:([0-9A-Fa-f]{1,6})\s?|([^\n]))")
# Parts of a style that load something. The address of a local reference begins with #.
_CSS_LOADS: Final = re.compile(
    r"""@import\b[^;]*;?
    | (?<![\w-])(?:url|src)\((?!\s*["']?\s*(?:\#|data:(?:image/(?:png|jpe?g|gif|webp)|font/[\w-]+
        |application/(?:x-)?font[\w-]*);base64,))(?:"[^"]*"|'[^']*'|[^)"'])*\)?
    | (?<![\w-])(?:-webkit-|-moz-)?(?:image-set|cross-fade|image)\((?:[^()]|\([^()]*\))*\)?
    | (?<![\w-])(?:-moz-binding|behavior)\s*:[^;}]*""",
    re.VERBOSE | re.IGNORECASE,
)
_NAMESPACE_RULE: Final = re.compile(r"@namespace\b[^;]*;?", re.IGNORECASE)
_STYLE_SHOWN: Final = 40  # characters of a style in a finding


def check_safety(tokenizer: Tokenizer, elements: list[Element]) -> list[Fault]:
    """Return what is unsafe in a well-formed text; every repair removes it."""
    faults = [fault for token in tokenizer.tokens for fault in _check_token(tokenizer.text, token)]
    for element in elements:
        if element.enclosing_text is None:
            faults += _check_element(element)
        else:
            faults.append(_remove_tags("html-in-text", element, element.enclosing_text.name))
        faults += _check_links(element)
        if local_name(element.name) == "style":
            faults += _check_style_sheet(tokenizer, element)
    faults += _check_descriptions(tokenizer, elements)
    return faults


def _check_token(text: str, token: Token) -> Iterator[Fault]:
    """Yield what is unsafe in a document type or a processing instruction."""
    written = text[token.start : token.end]
    if token.kind == "doctype":
        if read_entities(written) is None:
            offset = token.start + written.index("[")
            edit = Edit(offset, token.start + written.rindex("]") + 1)
            yield Fault("entity-declaration", offset, "more than short texts", (edit,))
    elif token.kind == "instruction" and token.name.lower() != "xml":
        is_style = token.name.lower() == "xml-stylesheet"
        if is_style or ">" in written[:-1] or "<" in written[1:]:
            yield Fault("processing-instruction", token.start, token.name, (token.removal,))


def _remove_element(rule: str, element: Element, detail: str) -> Fault:
    edit = Edit(element.start.start, element.end.end)
    return Fault(rule, element.start.start, detail, (edit,))


def _remove_tags(rule: str, element: Element, detail: str) -> Fault:
    return Fault(rule, element.start.start, detail, element.remove_tags())


def _check_element(element: Element) -> Iterator[Fault]:
    """Yield what is unsafe in an element's name: programs, HTML, animations of links."""
    name = local_name(element.name).lower()
    if name in _ACTIVE:
        yield _remove_element("active-element", element, element.name)
    elif element.name.lower() in HTML_ELEMENTS or (
        element.name.lower() == "font" and _HTML_FONT & {key.lower() for key in element.attributes}
    ):
        yield _remove_tags("html-element", element, element.name)
    elif name in _ANIMATIONS:
        target = local_name(element.attributes.get("attributeName", "").strip()).lower()
        if target in _LINKS or target.startswith("on"):
            yield _remove_element("animated-link", element, element.name)


def _check_links(element: Element) -> Iterator[Fault]:
    """Yield the attributes that run programs or load something from outside."""
    is_image = local_name(element.name) in ("image", "feImage")
    for attribute in element.start.attributes:
        name, value = attribute.name, element.attributes[attribute.name]
        local = local_name(name).lower()
        if local.startswith("on"):
            yield Fault("event-handler", attribute.start, name, (attribute.removal,))
        elif local == "base" or (local in _LINKS and not _is_local(value, is_image)):
            detail = f"{name} of <{element.name}>"
            yield Fault("outside-reference", attribute.start, detail, (attribute.removal,))
        elif not _NO_STYLE.fullmatch(name):
            safe = make_style_safe(value)
            if safe is not None:
                shown = shorten_detail(value, _STYLE_SHOWN)
                edit = attribute.replace_value(escape_text(safe).replace("'", "&apos;"))
                yield Fault("unsafe-style", attribute.start, shown, (edit,))


def _is_local(value: str, is_image: bool) -> bool:
    """Return whether a link refers to the drawing itself, or holds an image as data."""
    value = value.strip()
    return not value or value.startswith("#") or (is_image and bool(_IMAGE_DATA.fullmatch(value)))


def make_style_safe(style: str) -> str | None:
    """Return `style` with `none` in place of everything that it loads; None if it loads nothing."""
    plain = _CSS_ESCAPE.sub(_unescape_character, style) if "\\" in style else style
    checked = _NAMESPACE_RULE.sub(lambda found: " " * len(found[0]), plain)
    if not _CSS_LOADS.search(checked):
        return None
    safe = _CSS_LOADS.sub("none", plain)
    # The remaining parts, joined, may load something again.
    return "" if _CSS_LOADS.search(safe) else safe


def _unescape_character(found: re.Match[str]) -> str:
    """Return the character that an escape of CSS stands for; "" for what a text must not hold."""
    if found[1] is None:
        return str(found[2])
    code = int(found[1], 16)
    return chr(code) if 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE else ""


def _check_style_sheet(tokenizer: Tokenizer, element: Element) -> Iterator[Fault]:
    """Yield what a <style> loads. All its pieces of text together are one style sheet."""
    entities = entities_of(tokenizer)
    style = ""
    for token in tokenizer.tokens[element.first + 1 : element.last]:
        written = tokenizer.text[token.start : token.end]
        if token.kind == "cdata":
            style += strip_cdata_marks(written)
        elif token.kind == "text":
            style += replace_references(written, entities)
    safe = make_style_safe(style)
    if safe is not None:
        edit = Edit(element.start.end, element.end.start, escape_text(safe))
        shown = shorten_detail(style, _STYLE_SHOWN)
        yield Fault("unsafe-style", element.start.start, shown, (edit,))


def _check_descriptions(tokenizer: Tokenizer, elements: list[Element]) -> Iterator[Fault]:
    """Yield comments and the like inside of <title> and <desc>, which a web page reads as HTML."""
    for element in elements:
        if local_name(element.name) not in ("title", "desc"):
            continue
        for token in tokenizer.tokens[element.first + 1 : element.last]:
            if token.kind in ("comment", "cdata", "instruction"):
                written = tokenizer.text[token.start : token.end]
                text = escape_text(strip_cdata_marks(written)) if token.kind == "cdata" else ""
                edit = Edit(token.start, token.end, text)
                yield Fault("html-in-text", token.start, element.name, (edit,))
