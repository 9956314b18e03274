"""Find the drawing in a whole answer: thoughts, prose and code fences are left out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

# A thought of Gemma 4, and how other models write one.
_THOUGHT: Final = re.compile(
    r"<\|channel>.*?(?:<channel\|>|\Z)|<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL
)
_TAG: Final = re.compile(r"<(/?)(?:[A-Za-z_][\w.-]*:)?svg(?=[\s>/]|\Z)([^<>]*)", re.IGNORECASE)
_DOCTYPE: Final = re.compile(r"<!DOCTYPE\s[^\[<>]*(?:\[[^\]]*\]\s*)?>", re.IGNORECASE)
_DECLARATION: Final = re.compile(r"<\?xml\b|<!DOCTYPE\b", re.IGNORECASE)
_FENCE: Final = "```"
# Characters before <svg> in which the beginning of a prolog is looked for: a choice, far more than
# a document type has.
_PROLOG_CHARS: Final = 4096


@dataclass(frozen=True, slots=True)
class FoundDrawing:
    """The position of a drawing in a text, from `start` to `end`.

    `is_whole`: it has a closing tag. `is_alone`: the text around it is only what an SVG file may
    hold, such as comments. `count`: the number of drawings in the text.
    """

    start: int
    end: int
    is_whole: bool
    is_alone: bool
    count: int


def find_drawing(text: str) -> FoundDrawing | None:
    """Return the last complete drawing of an answer, else the last incomplete one, else None.

    A drawing in a thought counts only if there is none outside of it.
    """
    visible = _THOUGHT.sub(lambda found: "\0" * len(found[0]), text) if "<" in text else text
    return _find_last(visible) or (_find_last(text) if visible != text else None)


def _find_last(text: str) -> FoundDrawing | None:
    """Return the last complete drawing of a text, else the last incomplete one, else None."""
    opened: list[tuple[int, bool]] = []  # start of a tag without an end, whether it has attributes
    whole: list[tuple[int, int]] = []  # start and end of complete drawings
    for tag in _TAG.finditer(text):
        closing, rest = tag.groups()
        if not closing and rest.endswith("/") and text.startswith(">", tag.end()):
            if not opened:
                whole.append((tag.start(), tag.end() + 1))
        elif not closing:
            opened.append((tag.start(), bool(rest.strip())))
        elif opened:
            start, _ = opened.pop()
            end = tag.end() + text.startswith(">", tag.end())  # one character more, if it is there
            # A complete drawing replaces those inside of it.
            while whole and whole[-1][0] > start:
                whole.pop()
            whole.append((start, end))
    # An unclosed <svg> with attributes around all others is the drawing; the answer was cut off.
    # One without attributes may be a word in a sentence.
    outer = next((start for start, has_attributes in opened if has_attributes), None)
    if (
        outer is not None
        and whole
        and whole[0][0] > outer
        and _FENCE not in text[outer : whole[0][0]]
    ):
        whole = []
    count = len(whole) or min(1, len(opened))  # of incomplete ones the last is the drawing
    if whole:
        start, end = whole[-1]
    elif opened:
        last_start, _ = opened[-1]
        start = last_start if outer is None else outer
        end = text.find(_FENCE, start)
        end = end if end >= 0 else len(text)
    else:
        return None
    return _include_prolog(text, start, end, count, is_whole=bool(whole))


def _include_prolog(text: str, start: int, end: int, count: int, *, is_whole: bool) -> FoundDrawing:
    """Return the drawing with its prolog; if nothing else is around it, the whole text."""
    if _skip_misc(text, 0, start) == start and _skip_misc(text, end, len(text)) == len(text):
        return FoundDrawing(0, len(text), is_whole, True, count)
    begin = start
    for found in _DECLARATION.finditer(text, max(0, start - _PROLOG_CHARS), start):
        if _skip_misc(text, found.start(), start) == start:
            begin = found.start()
            break
    return FoundDrawing(begin, end, is_whole, False, count)


def _skip_misc(text: str, offset: int, stop: int) -> int:
    """Return where white space, comments, instructions and a document type end, `stop` at most."""
    while offset < stop:
        if text[offset].isspace() or text[offset] == "\ufeff":
            offset += 1
            continue
        end = -1
        if text.startswith("<!--", offset):
            end = text.find("-->", offset + 4, stop)
        elif text.startswith("<?", offset):
            end = text.find("?>", offset, stop)
        elif doctype := _DOCTYPE.match(text, offset, stop):
            end = doctype.end() - 1
        if end < 0:
            break
        offset = text.index(">", end) + 1
    return offset
