"""Answers as HTML that is safe to put into the page: rendered, cleaned, code in colors.

Markdown is rendered without HTML of the model's own (`g4cli.chat.markdown`); what comes out passes
an allow list of tags and attributes as a second wall. No style attribute and no image is left;
links lead to http, https and mailto only.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any, Final

import nh3
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from pygments import lex
from pygments.token import STANDARD_TYPES

from g4cli.chat.code_lexer import find_lexer
from g4cli.chat.markdown import make_markdown_parser
from g4cli.core.visible import escape_invisible

_TAGS: Final = {
    "a", "blockquote", "br", "code", "div", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
    "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
_ATTRIBUTES: Final = {
    "a": {"href", "title"},
    "div": {"tabindex"},
    "pre": {"data-language"},
    "ol": {"start"},
}
_CODE_CLASSES: Final = set(STANDARD_TYPES.values()) - {"", "w"}  # no color for whitespace
_CLASSES: Final = {
    "div": {"table"},
    "span": _CODE_CLASSES,
    "td": {"center", "right"},
    "th": {"center", "right"},
}
_SCHEMES: Final = {"http", "https", "mailto"}
_HIGHEST_HEADING: Final = 3  # the page has headings of its own above those of an answer
_LANGUAGE: Final = re.compile(r"[A-Za-z0-9+#._-]{1,30}")
_LONGEST_LINE: Final = 2_000  # a choice, in characters: longer lines of code are not colored


def render_markdown(source: str) -> str:
    """Return `source` as clean HTML; one that is nested too deeply is shown as it is."""
    source = escape_invisible(source)
    try:
        tokens = make_markdown_parser().parse(source)
        return clean_html(_Renderer().render(tokens, make_markdown_parser().options, {}))
    except RecursionError:
        return f"<p>{html.escape(source, quote=False)}</p>"


def clean_html(text: str) -> str:
    """Return the allowed part of an HTML fragment."""
    return nh3.clean(
        text,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        allowed_classes=_CLASSES,
        url_schemes=_SCHEMES,
        url_relative="deny",
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )


def render_code(code: str, language: str) -> str:
    """Return lines of code as HTML: spans with Pygments' short class names around its tokens."""
    code = escape_invisible(code)
    lexer = find_lexer(language)
    if lexer is None or any(len(line) > _LONGEST_LINE for line in code.split("\n")):
        return html.escape(code, quote=False)
    tokens = list(lex(f"{code}\n", lexer))
    if "".join(text for _, text in tokens) != f"{code}\n":  # the lexer has changed it
        return html.escape(code, quote=False)
    parts = []
    for kind, text in tokens:
        name = _find_class(kind)
        escaped = html.escape(text, quote=False)
        parts.append(f'<span class="{name}">{escaped}</span>' if name in _CODE_CLASSES else escaped)
    # The newline is the last one, but a tag may follow it.
    before, _, after = "".join(parts).rpartition("\n")
    return clean_html(before + after)


def name_language(info: str) -> str:
    """Return the language that the text after a fence names, or ""."""
    match = _LANGUAGE.match(info.strip())
    return match[0].lower() if match else ""


def _find_class(kind: Any) -> str:
    while kind not in STANDARD_TYPES:
        kind = kind.parent
    return str(STANDARD_TYPES[kind])


class _Renderer(RendererHTML):
    """markdown-it's HTML with classes where it writes styles, and with code in colors."""

    def render(self, tokens: Sequence[Token], options: Any, env: Any) -> str:
        """Return the HTML of `tokens`."""
        for token in tokens:
            if token.type in ("heading_open", "heading_close"):
                level = min(6, int(token.tag[1:]) + _HIGHEST_HEADING - 1)
                token.tag = f"h{level}"
            elif token.type in ("th_open", "td_open"):
                side = str(token.attrs.pop("style", "")).removeprefix("text-align:")
                if side in ("center", "right"):
                    token.attrs["class"] = side
        return str(super().render(tokens, options, env))

    def table_open(self, *_: Any) -> str:
        """Return the start of a table, which scrolls by itself where it is wider than the page."""
        return '<div class="table" tabindex="0"><table>'

    def table_close(self, *_: Any) -> str:
        """Return the end of a table."""
        return "</table></div>"

    def softbreak(self, *_: Any) -> str:
        """Return a line break: a single one stays one, as in every chat."""
        return "<br>\n"

    def fence(self, tokens: Sequence[Token], idx: int, *_: Any) -> str:
        """Return a block of code."""
        token = tokens[idx]
        language = name_language(token.info)
        return wrap_code(render_code(token.content.removesuffix("\n"), language), language)

    def code_block(self, tokens: Sequence[Token], idx: int, *_: Any) -> str:
        """Return an indented block of code."""
        return wrap_code(render_code(tokens[idx].content.removesuffix("\n"), ""), "")


def wrap_code(code_html: str, language: str) -> str:
    """Return the HTML of a block of code, which is rendered already, in `language`."""
    return f'<pre data-language="{html.escape(language)}"><code>{code_html}</code></pre>'
