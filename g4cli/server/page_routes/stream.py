"""Markdown that arrives bit by bit, as blocks of HTML of which only the last one still changes.

A browser that gets the whole answer again with each token is slow from some thousand characters on.
So the text is divided where CommonMark allows it: when a block has begun, all blocks before it are
final. Only the open one is parsed and sent again, and it never grows long: beyond `CUT_CHARS` a
list is divided before an item, a table before a row (its head is repeated), a paragraph after a
space, code before a line that begins at the margin. Pieces that belong together are marked as
joined, and the page shows them without a gap.

Code is not parsed while its fence is open: its lines are sent as plain text, and get their colors
piece by piece. A drawing that stands in the text without a fence is shown as code too.

Every change has a number, counted up by one. Whoever saw the changes up to `n` asks for those after
`n`: this is how a page that was closed catches up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

from markdown_it.token import Token

from g4cli.chat.markdown import make_markdown_parser
from g4cli.core.visible import AnswerCleaner
from g4cli.server.page_routes.markdown import (
    name_language,
    render_code,
    render_markdown,
    wrap_code,
)

# Choices: about a screen of text or code, which is parsed in a few milliseconds.
CUT_CHARS: Final = 3_000
_MAX_CHARS: Final = 4 * CUT_CHARS  # an item or a row that long is divided anywhere
_CODE_LINES: Final = 60  # a piece of code has this many lines, and at most twice as many
_DRAWING: Final = re.compile(r" {0,3}<(?:svg(?=[\s>])|\?xml\b|!DOCTYPE\s+svg\b)", re.IGNORECASE)
_CODE: Final = ("fence", "code_block")
_DRAWING_END: Final = re.compile(r"</svg\s*>", re.IGNORECASE)


@dataclass(slots=True)
class Block:
    """One block of the answer. `changed`: the number of the last change of `html`; 0: it has none.

    `tail`: lines of code, plain text, that were added to the code in `html`, each with the number
    of that change. `joined`: the block continues the one before it. `language`: of code, "" if its
    fence names none; None for text.
    """

    html: str = ""
    changed: int = 0
    joined: bool = False
    language: str | None = None
    tail: list[tuple[int, str]] = field(default_factory=list)


class MarkdownStream:
    """The blocks of an answer while it is written."""

    def __init__(self) -> None:
        self.version = 0  # the number of the last change
        self.blocks: list[Block] = []
        self._clean = AnswerCleaner()
        self._open = ""  # the source of the last block, and what follows it
        self._is_rendered = True  # whether `blocks` show all of `_open` that can be shown yet
        self._fence = ""  # the fence of the code that is open; "<svg" for a drawing without one
        self._indent = 0  # spaces before that fence: as many are removed from each line
        self._code: list[str] = []  # lines of the open piece of code
        self._is_final = True  # whether the last block is
        self._joins = False  # whether the next block continues it

    def feed(self, text: str) -> None:
        """Append text to the answer."""
        self._open += self._clean(text)
        self._is_rendered = False

    def finish(self) -> None:
        """Make all blocks final."""
        self._render()
        if self._fence and self._open:
            self._take_code_line(self._open)
        if self._fence:
            self._close_code_piece(is_last=True)
        self._open, self._is_rendered = "", True

    def list_changes(self, after: int) -> list[dict[str, Any]]:
        """Return what changed after the change number `after`, for the page.

        {"block": n, "html": ..., "joined": ...} replaces a block or adds it; {"block": n,
        "text": ...} appends plain text to the code of a block.
        """
        self._render()
        changes: list[dict[str, Any]] = []
        # Only the last block changes, so that blocks with new changes follow those without.
        first = len(self.blocks)
        while first and _last_change(self.blocks[first - 1]) > after:
            first -= 1
        for index in range(first, len(self.blocks)):
            block = self.blocks[index]
            if block.changed > after:
                changes.append({"block": index, "html": block.html, "joined": block.joined})
            if text := "".join(text for number, text in block.tail if number > after):
                changes.append({"block": index, "text": text})
        return changes

    def _render(self) -> None:
        """Bring `blocks` up to date with the text."""
        while not self._is_rendered:
            self._is_rendered = True
            if self._fence:
                self._read_code()
            else:
                self._read_text()

    # --- text

    def _read_text(self) -> None:
        """Render the open text: all blocks but the last one become final."""
        lines = self._open.split("\n")
        first = next((index for index, line in enumerate(lines) if line.strip()), None)
        if first is None:
            return
        if _DRAWING.match(lines[first]):
            self._open_code("<svg", "svg", 0, "\n".join(lines[first:]))
            return
        tokens = _parse_blocks(self._open)
        begins = [t.map[0] for t in tokens if t.map and t.level == 0 and t.nesting >= 0]
        if drawing := _find_drawing(lines, tokens):
            begins = [*(begin for begin in begins if begin < drawing), drawing]
        fences = [t.map[0] for t in tokens if t.map and t.level == 0 and t.type == "fence"]
        # `last` is the first block of code, or else the last block. Code is read line by line
        # (`_read_code`), so that what follows it is parsed again when the code has ended.
        last = next((i for i, begin in enumerate(begins) if begin in fences), len(begins) - 1)
        if last > 0:
            for begin, end in pairwise(begins[: last + 1]):
                self._put_text("\n".join(lines[begin:end]), is_final=True)
            self._open = "\n".join(lines[begins[last] :])
            self._is_rendered = False
        elif fences and len(lines) > first + 1:
            # The text begins with code, and the line of its fence is complete.
            fence, indent = tokens[0], len(lines[first]) - len(lines[first].lstrip(" "))
            code = "\n".join(lines[first + 1 :])
            self._open_code(fence.markup, name_language(fence.info), indent, code)
        elif len(self._open) > CUT_CHARS:
            self._cut_text(lines, tokens)
        else:
            self._put_text(self._open, is_final=False)

    def _put_text(self, source: str, *, is_final: bool) -> None:
        """Show `source` as the open block; with `is_final` the next text begins a new one."""
        self._change_block(self._take_block(), render_markdown(source))
        self._is_final = is_final

    def _cut_text(self, lines: list[str], tokens: list[Token]) -> None:
        """Make the beginning of a long open block final, if there is a place to divide it.

        `lines` and `tokens` are those of the whole open text.
        """
        # `cut`: where the next block begins, 0: nowhere; `head`: what is repeated before it.
        source, cut, head = self._open, 0, ""
        kind = tokens[0].type if tokens else ""
        if kind in ("bullet_list_open", "ordered_list_open"):
            items = [t.map[0] for t in tokens if t.type == "list_item_open" and t.map]
            cut = len("\n".join(lines[: items[-1]])) + 1 if len(items) > 1 else 0
        elif kind == "table_open":
            row = max(index for index, line in enumerate(lines) if line.strip())
            if row > 2:  # the head of a table has two lines
                cut, head = len("\n".join(lines[:row])) + 1, "\n".join([*lines[:2], ""])
        elif kind == "paragraph_open":
            cut = max(source.rfind("\n"), source.rfind(" ")) + 1
        else:
            cut = source.rfind("\n") + 1
        if cut <= 0 and len(source) > _MAX_CHARS:
            cut = len(source)
        if cut <= 0:
            self._put_text(source, is_final=False)
            return
        self._put_text(source[:cut], is_final=True)
        self._joins = True
        self._open = head + source[cut:]
        self._is_rendered = not source[cut:].strip()  # a head alone is not shown

    # --- code

    def _open_code(self, fence: str, language: str, indent: int, rest: str) -> None:
        self._fence, self._indent, self._open = fence, indent, rest
        block = self._take_block()
        block.language = language
        self._change_block(block, wrap_code("", language))
        self._code = []
        self._is_rendered = False

    def _read_code(self) -> None:
        *whole, self._open = self._open.split("\n")
        for index, line in enumerate(whole):
            self._take_code_line(line)
            if not self._fence:
                self._open = "\n".join([*whole[index + 1 :], self._open])
                self._is_rendered = False
                return

    def _take_code_line(self, line: str) -> None:
        """Add a whole line to the open code, or close it."""
        if self._fence == "<svg":
            self._add_code_line(line)
            if _DRAWING_END.search(line):
                self._close_code_piece(is_last=True)
            return
        blank = len(line) - len(line.lstrip(" "))
        mark = line[blank:].rstrip()
        # A fence that is indented further is code (CommonMark 0.31, 4.5).
        if blank < 4 and mark.startswith(self._fence) and not mark.strip(self._fence[0]):
            self._close_code_piece(is_last=True)
            return
        self._add_code_line(line[min(self._indent, blank) :])

    def _add_code_line(self, line: str) -> None:
        n_lines = len(self._code)
        n_chars = sum(map(len, self._code)) if n_lines < 2 * _CODE_LINES else 0
        at_margin = bool(line) and not line[0].isspace()
        if n_lines >= 2 * _CODE_LINES or n_chars > _MAX_CHARS or (
            n_lines >= _CODE_LINES and at_margin
        ):  # fmt: skip
            self._close_code_piece(is_last=False)
        self.version += 1
        text = f"\n{line}" if self._code else line
        self._take_block().tail.append((self.version, text))
        self._code.append(line)

    def _close_code_piece(self, *, is_last: bool) -> None:
        """Give the lines of the open piece their colors; `is_last`: the code ends with them."""
        block = self._take_block()
        language = block.language or ""
        block.tail.clear()
        self._change_block(block, wrap_code(render_code("\n".join(self._code), language), language))
        self._is_final, self._code = True, []
        if is_last:
            self._fence = ""
            return
        self._joins = True
        block = self._take_block()
        block.language = language
        self._change_block(block, wrap_code("", language))

    # --- blocks

    def _take_block(self) -> Block:
        """Return the block that may still change; it is added if the last one is final."""
        if self._is_final:
            self.blocks.append(Block(joined=self._joins))
            self._is_final = self._joins = False
        return self.blocks[-1]

    def _change_block(self, block: Block, text: str) -> None:
        """Replace the HTML of `block` by `text`, which counts as a change if it is another one."""
        if block.changed and block.html == text and not block.tail:
            return
        self.version += 1
        block.html, block.changed = text, self.version


@lru_cache(maxsize=256)  # a choice: the turns of a long conversation, opened again
def render_blocks(source: str) -> list[dict[str, Any]]:
    """Return the blocks of a finished answer as `list_changes` does."""
    stream = MarkdownStream()
    for begin in range(0, len(source), CUT_CHARS):
        stream.feed(source[begin : begin + CUT_CHARS])
        stream.list_changes(stream.version)  # so that long blocks are divided
    stream.finish()
    return stream.list_changes(0)


def _last_change(block: Block) -> int:
    return max(block.changed, block.tail[-1][0] if block.tail else 0)


def _parse_blocks(source: str) -> list[Token]:
    """Return the tokens of blocks, list items and code; none if it is nested too deeply."""
    try:
        tokens = make_markdown_parser().parse(source)
    except RecursionError:
        return []
    return [token for token in tokens if token.level < 2 or token.type in _CODE]


def _find_drawing(lines: list[str], tokens: list[Token]) -> int:
    """Return the index of the line at which a drawing outside of code begins.

    0: there is none; a drawing in the first line was found before this is called.
    """
    code = [token.map for token in tokens if token.type in _CODE and token.map]
    for index, line in enumerate(lines):
        if _DRAWING.match(line) and not any(begin <= index < end for begin, end in code):
            return index
    return 0
