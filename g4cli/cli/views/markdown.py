"""Render Markdown as lines of a terminal that show every character that is not markup.

The Markdown is that of `g4cli.chat.markdown`. A single line break stays a line break, as in every
chat.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from markdown_it.tree import SyntaxTreeNode
from rich import box
from rich.cells import cell_len
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from g4cli.chat.markdown import make_markdown_parser
from g4cli.cli.views.code import Highlighter

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_STYLES: Final = {"strong": "bold", "em": "italic", "s": "strike", "link": "underline"}
_HEADINGS: Final = {"h1": "bold underline", "h2": "bold", "h3": "bold"}
_BULLET: Final = "• "
_QUOTE: Final = "▌ "
_MIN_COLUMNS: Final = 8  # that nested text is drawn in: below, its indentation is left out
_MIN_CELL: Final = 4  # terminal columns for each column of a table: below, its source is shown
_STYLE_SEQUENCE: Final = re.compile(r"\x1b\[[0-9;]*m")  # SGR of ECMA-48


def render_markdown(console: Console, source: str, *, width: int, indent: int = 0) -> list[str]:
    """Return `source` as lines of at most `width` columns, the first `indent` of them empty.

    A line holds its escape sequences and no newline. If any letter, digit or non-ASCII character
    of `source` were missing from the lines, the source itself is returned, wrapped.
    """
    width, indent = (width - indent, indent) if width - indent >= _MIN_COLUMNS else (width, 0)
    source = source.expandtabs(4)
    try:
        tree = SyntaxTreeNode(make_markdown_parser().parse(source))
        lines: list[Text] | None = list(_draw_blocks(tree, _Canvas(console, source, width)))
    except RecursionError:  # nested a thousand times: not written by a person
        lines = None
    if lines is None or _count_content(source) - _count_content(
        "".join(line.plain for line in lines)
    ):
        lines = list(_wrap_text(console, Text(source), width))
    rows = (row for line in lines for row in split_rows(line, width))
    return render_lines(console, (Text(" " * indent) + row if indent else row for row in rows))


def render_lines(console: Console, lines: Iterable[Text]) -> list[str]:
    """Return each line with its styles as escape sequences, as this console can show them."""
    with console.capture() as capture:
        console.print(_FinishedLines(console, lines), soft_wrap=True)
    return capture.get().split("\n")[:-1]


def strip_styles(line: str) -> str:
    """Return a drawn line without its styles."""
    return _STYLE_SEQUENCE.sub("", line)


def _count_content(text: str) -> Counter[str]:
    """Return how often each character occurs that no markup consists of."""
    return Counter(c for c in text if c.isalnum() or (c > "\x7f" and not c.isspace()))


class _FinishedLines:
    """Prints lines unchanged, where rich would expand tabs and cut or wrap what is too long."""

    def __init__(self, console: Console, lines: Iterable[Text]) -> None:
        self._console, self._lines = console, lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        del options
        for line in self._lines:
            line.end = ""
            yield from line.render(console)
            yield Segment("\n")


class _Canvas:
    """Where a block is drawn: the console, the columns that are left, and the whole source."""

    def __init__(self, console: Console, source: str, width: int) -> None:
        self.console, self.width = console, max(_MIN_COLUMNS, width)
        self.source = source
        self.lines = source.split("\n")

    def narrow_by(self, columns: int) -> _Canvas:
        """Return a canvas with `columns` fewer columns."""
        return _Canvas(self.console, self.source, self.width - columns)

    def has_gap_before(self, node: SyntaxTreeNode) -> bool:
        """Return whether a blank line precedes the block `node` in the source."""
        at = node.map[0] if node.map else 0  # the line of the source on which it begins
        return 0 < at <= len(self.lines) and not self.lines[at - 1].strip("> \t")


def _draw_blocks(parent: SyntaxTreeNode, canvas: _Canvas) -> Iterator[Text]:
    for index, node in enumerate(parent.children):
        if index and canvas.has_gap_before(node):
            yield Text()
        yield from _draw_block(node, canvas)


def _draw_block(node: SyntaxTreeNode, canvas: _Canvas) -> Iterator[Text]:
    kind = node.type
    if kind in ("paragraph", "heading"):
        text = _style_inline(node)
        if kind == "heading":
            text.stylize(_HEADINGS.get(node.tag, "bold"))
        yield from _wrap_text(canvas.console, text, canvas.width)
    elif kind in ("bullet_list", "ordered_list"):
        for index, item in enumerate(node.children):
            if index and canvas.has_gap_before(item):
                yield Text()
            # Of "3. text", markdown-it has 3 as the item's info and the dot as its markup.
            mark = f"{item.info}{item.markup} " if kind == "ordered_list" else _BULLET
            yield from _draw_after_mark(mark, " " * len(mark), item, canvas)
    elif kind == "blockquote":
        yield from _draw_after_mark(_QUOTE, _QUOTE, node, canvas)
    elif kind in ("fence", "code_block"):
        yield from _draw_code(node, canvas)
    elif kind == "hr":
        yield Text("─" * canvas.width, style="dim")
    elif kind == "table":
        yield from _draw_table(node, canvas)
    elif node.children:
        yield from _draw_blocks(node, canvas)
    else:
        yield from _wrap_text(canvas.console, Text(node.content), canvas.width)


def _draw_after_mark(
    first: str, rest: str, node: SyntaxTreeNode, canvas: _Canvas
) -> Iterator[Text]:
    """Draw the blocks of `node` after the mark `first` on their first line and `rest` on others."""
    prefix = Text(first, style="cyan" if first != _QUOTE else "dim")
    empty = True
    for line in _draw_blocks(node, canvas.narrow_by(cell_len(first))):
        empty = False
        yield prefix + line
        prefix = Text(rest, style="dim")
    if empty:
        yield prefix


def _draw_code(node: SyntaxTreeNode, canvas: _Canvas) -> Iterator[Text]:
    """Draw code that is nested in a list or a quote; views/chat.py draws other code as it comes."""
    info = node.info.strip() if node.type == "fence" else ""
    if info:
        yield from _wrap_text(canvas.console, Text(info, style="dim"), canvas.width)
    highlighter = Highlighter(info.split(" ")[0])
    for line in node.content.removesuffix("\n").split("\n"):
        yield from split_rows(highlighter.highlight_line(line), canvas.width)


def split_rows(text: Text, width: int) -> list[Text]:
    """Return `text` in rows of at most `width` columns, cut where the terminal would cut it."""
    if cell_len(text.plain) <= width:
        return [text]
    cuts, used = [], 0
    for index, char in enumerate(text.plain):
        cells = cell_len(char)
        if used + cells > width:
            cuts.append(index)
            used = 0
        used += cells
    return list(text.divide(cuts))


def _draw_table(node: SyntaxTreeNode, canvas: _Canvas) -> Iterator[Text]:
    rows = [row for part in node.children for row in part.children]
    n_columns = len(rows[0].children)
    if n_columns * _MIN_CELL > canvas.width:
        begin, end = node.map or (0, 0)
        source = "\n".join(canvas.lines[begin:end])
        yield from _wrap_text(canvas.console, Text(source), canvas.width)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for cell in rows[0].children:
        right = "right" in str(cell.attrs.get("style", ""))
        center = "center" in str(cell.attrs.get("style", ""))
        table.add_column(
            _style_inline(cell),
            justify="right" if right else "center" if center else "left",
            overflow="fold",
        )
    for row in rows[1:]:
        table.add_row(*(_style_inline(cell) for cell in row.children))
    options = canvas.console.options.update(width=canvas.width)
    for segments in canvas.console.render_lines(table, options, pad=False):
        line = Text()
        for segment in segments:
            line.append(segment.text, segment.style)
        line.rstrip()
        yield line


def _style_inline(block: SyntaxTreeNode) -> Text:
    text = Text()
    for node in block.children:
        _append_nodes(text, node.children if node.type == "inline" else [node], "")
    return text


def _append_nodes(text: Text, nodes: Sequence[SyntaxTreeNode], style: str) -> None:
    for node in nodes:
        if node.type in ("softbreak", "hardbreak"):
            text.append("\n")
        elif node.type == "code_inline":
            text.append(node.content, f"{style} cyan".strip())
        elif node.type in _STYLES:
            _append_nodes(text, node.children, f"{style} {_STYLES[node.type]}".strip())
            if node.type == "link":
                text.append(_format_address(node))
        elif node.children:
            _append_nodes(text, node.children, style)
        else:
            text.append(node.content, style)


def _format_address(link: SyntaxTreeNode) -> str:
    """Return the address of a link, and its title if it has one, in parentheses."""
    address, title = str(link.attrs.get("href", "")), str(link.attrs.get("title", ""))
    return f' ({address} "{title}")' if title else f" ({address})"


def _wrap_text(console: Console, text: Text, width: int) -> Iterator[Text]:
    yield from text.wrap(console, width, overflow="fold")
