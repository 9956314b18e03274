"""Split streamed Markdown into pieces that later text cannot change; `chat.py` draws them.

A piece of text is a paragraph, a heading, a table, a quote, or one list item with everything that
is nested in it. Fenced code is split into lines, so that a line of a long code block costs no more
than one of a short block. Its lines lose the indentation of the list around them, so that code
copied from the screen runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

_FENCE: Final = re.compile(r"( *)(`{3,}|~{3,})(.*)$")
_ITEM: Final = re.compile(r" {0,3}(?:[-*+]|\d{1,9}[.)])(?:\s|$)")
# A list item that ends the paragraph before it without a blank line: an ordered list must begin
# with 1 to do so (CommonMark, section 5.2).
_INTERRUPTING_ITEM: Final = re.compile(r" {0,3}(?:[-*+]|1[.)])\s+\S")
# A list item on whose first line a fence opens.
_ITEM_WITH_FENCE: Final = re.compile(r"\s*(?:(?:[-*+]|\d{1,9}[.)])\s+)+(`{3,}|~{3,})")
_HEADING: Final = re.compile(r" {0,3}#{1,6}(?:\s|$)")


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Markdown source to draw `indent` columns from the margin, below a blank line if `gap`.

    The indent is that of a list item which a code block has ended, and which this continues.
    """

    source: str
    indent: int = 0
    gap: bool = False


@dataclass(frozen=True, slots=True)
class CodeBegin:
    """A fence opened, below a blank line if `gap`; `language` is the first word after it."""

    language: str
    gap: bool = False


@dataclass(frozen=True, slots=True)
class CodeLine:
    """A finished line inside a fence, as written."""

    text: str


Piece: TypeAlias = TextBlock | CodeBegin | CodeLine


class BlockReader:
    """Splits text that arrives bit by bit into pieces; `pending` is what is not finished yet."""

    def __init__(self) -> None:
        self._partial = ""  # the last line, whose newline has not arrived
        self._lines: list[str] = []  # the lines of the unfinished text block
        self._has_gap = False  # whether a blank line came before that block
        self._blank = False  # whether the last line was blank
        # The indentation of the last fence. Text that is indented as far continues its list item.
        self._list_indent = 0
        self._fence = ""  # the fence that is open, or "" in text
        self._fence_indent = 0
        # A fence that opened on the line of a list marker: its code is part of the list item.
        self._item_fence = ""

    @property
    def in_code(self) -> bool:
        """Whether a fence is open."""
        return bool(self._fence)

    @property
    def pending(self) -> TextBlock:
        """The unfinished block, or the unfinished line of code."""
        if self._fence:
            return TextBlock(self._without_indent(self._partial, self._fence_indent))
        if not self._lines:
            indent = self._list_indent if _count_indent(self._partial) >= self._list_indent else 0
            return TextBlock(self._partial[indent:], indent, self._has_gap or self._blank)
        last = self._without_indent(self._partial, self._list_indent)
        return TextBlock("\n".join([*self._lines, last]), self._list_indent, self._has_gap)

    def feed(self, text: str) -> list[Piece]:
        """Return the pieces that `text` finishes."""
        *whole, rest = text.split("\n")
        done: list[Piece] = []
        for part in whole:
            line, self._partial = self._partial + part, ""
            self._take_line(line, done)
        self._partial += rest
        return done

    def finish(self) -> list[Piece]:
        """Return the pieces that the end of the text finishes."""
        done: list[Piece] = []
        if self._partial:
            line, self._partial = self._partial, ""
            self._take_line(line, done)
        self._finish_block(done)
        self._fence = ""
        return done

    def _take_line(self, line: str, done: list[Piece]) -> None:
        """Read a whole line and append the pieces that it finishes to `done`."""
        if self._fence:
            self._take_code(line, done)
        elif self._item_fence:
            self._lines.append(self._without_indent(line, self._list_indent))
            if _closes_fence(line, self._item_fence):
                self._item_fence = ""
        elif not line.strip():
            self._lines += [""] if self._lines else []
            self._blank = True
        else:
            self._take_text(line, done)

    def _take_text(self, line: str, done: list[Piece]) -> None:
        """Read a line of text, or one that opens a fence."""
        fence = _FENCE.match(line)
        if fence and self._opens_code(fence):
            self._finish_block(done)
            self._fence, self._fence_indent = fence[2], len(fence[1])
            self._list_indent = len(fence[1])
            done.append(CodeBegin(fence[3].strip().split(" ")[0], self._has_gap or self._blank))
            self._has_gap = self._blank = False
            return
        if self._lines and self._ends_before(line):
            self._finish_block(done)
        if not self._lines:
            self._has_gap, self._blank = self._has_gap or self._blank, False
            if _count_indent(line) < self._list_indent:
                self._list_indent = 0
        self._blank = False
        self._lines.append(self._without_indent(line, self._list_indent))
        if inner := _ITEM_WITH_FENCE.match(line):
            self._item_fence = inner[1]
        if len(self._lines) == 1 and _HEADING.match(self._lines[0]):
            self._finish_block(done)

    def _take_code(self, line: str, done: list[Piece]) -> None:
        if _closes_fence(line, self._fence):
            self._fence = ""
        else:
            done.append(CodeLine(self._without_indent(line, self._fence_indent)))

    def _opens_code(self, fence: re.Match[str]) -> bool:
        """Return whether a line that looks like the beginning of a fence is one."""
        if "`" in fence[2] and "`" in fence[3]:
            return False  # a code span, such as ```x```
        # Four more spaces than the text around it would make it indented code.
        return len(fence[1]) < 4 + self._list_indent or self._in_list

    @property
    def _in_list(self) -> bool:
        """Whether the unfinished block is a list item."""
        return bool(self._lines) and _ITEM.match(self._lines[0]) is not None

    def _ends_before(self, line: str) -> bool:
        """Return whether the unfinished block is complete now that `line` follows it."""
        # `inner` is the line without the indentation of the list item that it continues, if any.
        inner = line[self._list_indent :] if 0 < self._list_indent <= _count_indent(line) else line
        if self._blank:
            return not (self._in_list and inner[0].isspace())
        if _HEADING.match(inner) or (inner is line and self._list_indent and _ITEM.match(line)):
            return True  # also the next item of a list whose code was shown
        marker = _ITEM if self._in_list else _INTERRUPTING_ITEM
        return marker.match(inner) is not None and (not self._in_list or not inner[0].isspace())

    def _finish_block(self, done: list[Piece]) -> None:
        while self._lines and not self._lines[-1]:
            self._lines.pop()
        if self._lines:
            done.append(TextBlock("\n".join(self._lines), self._list_indent, self._has_gap))
            self._has_gap = False
        self._lines = []
        self._item_fence = ""

    @staticmethod
    def _without_indent(line: str, indent: int) -> str:
        return line[min(indent, _count_indent(line)) :]


def _count_indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _closes_fence(line: str, fence: str) -> bool:
    """Return whether a line ends the code that `fence` opened: as many of its marks, or more."""
    mark = line.strip()
    return mark.startswith(fence) and not mark.strip(fence[0])
