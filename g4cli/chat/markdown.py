"""The Markdown of answers, which the terminal and the page of the server show alike.

CommonMark with tables and strikethrough, without the parts that would hide text that models write
literally:
- HTML, entities and <addresses> are shown as text
- reference definitions ('[^1]: a footnote') are shown as text, and images as '!' and a link
- '_' is not emphasis (__init__), and '*' between two letters or digits of ASCII begins none (2*3*4,
  x**2); in scripts without spaces between words, such as Chinese, it does
- a backslash is removed only before one of *_`#~<>|: \\( and \\\\ of formulas stay
- a line of '=' or '-' does not turn the line above it into a heading
"""

from __future__ import annotations

from functools import cache
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.rules_inline.state_inline import Delimiter

_ESCAPED: Final = "*_`#~<>|"  # characters before which a backslash is removed


@cache
def make_markdown_parser() -> MarkdownIt:
    """Return the parser of answers, one for all callers.

    It raises RecursionError for text that is nested some hundred times; callers show it as it is.
    The parser's own limit would omit text.
    """
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 10_000})
    parser.enable(["table", "strikethrough"])
    parser.disable(["html_block", "html_inline", "autolink", "entity", "image"])
    parser.disable(["reference", "lheading"])
    parser.inline.ruler.at("emphasis", _parse_emphasis)
    parser.inline.ruler.at("escape", _parse_escape)
    # Addresses are shown as the model wrote them, not percent-encoded or shortened.
    parser.normalizeLink = lambda url: url  # type: ignore[method-assign]
    parser.normalizeLinkText = lambda link: link  # type: ignore[method-assign]
    return parser


def _parse_emphasis(state: StateInline, silent: bool) -> bool:
    """Parse a run of '*' as markdown_it.rules_inline.emphasis does, but open none inside a word."""
    if silent or state.src[state.pos] != "*":
        return False
    run = state.scanDelims(state.pos, True)
    before = state.src[state.pos - 1 : state.pos] if state.pos else ""
    after = state.src[state.pos + run.length : state.pos + run.length + 1]
    in_word = _is_word(before) and _is_word(after)
    for _ in range(run.length):
        token = state.push("text", "", 0)
        token.content = "*"
        state.delimiters.append(
            Delimiter(
                marker=ord("*"),
                length=run.length,
                token=len(state.tokens) - 1,
                end=-1,
                open=run.can_open and not in_word,
                close=run.can_close,
            )
        )
    state.pos += run.length
    return True


def _is_word(char: str) -> bool:
    return char.isascii() and char.isalnum()


def _parse_escape(state: StateInline, silent: bool) -> bool:
    """Parse a backslash: it is removed before markup and kept before every other character."""
    if state.src[state.pos] != "\\" or state.pos + 1 >= state.posMax:
        return False
    char = state.src[state.pos + 1]
    if char == "\n":
        return False
    if not silent:
        state.push("text", "", 0).content = char if char in _ESCAPED else f"\\{char}"
    state.pos += 2
    return True
