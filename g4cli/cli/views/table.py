"""Lay out tables as plain text; in a narrow terminal columns are folded or rows are stacked.

Where the output is not a terminal (width None), a row is one line, however long: `grep` finds whole
names. In a terminal, columns of words are folded at spaces, except for the first column and those
named as whole. If that is not enough, each row is stacked: its name on one line, and below it the
other cells, each after the title of its column.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest
from typing import Final

from rich.cells import cell_len, chop_cells

GAP: Final = "  "  # between columns
# Terminal columns that a folded column keeps: a choice, about two words.
_MIN_COLUMN_WIDTH: Final = 14
# Cells are padded to this width at most: a longer cell shifts the rest of its own row only.
_MAX_PADDING: Final = 120


def lay_out(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    width: int | None,
    right: Collection[int] = (),
    whole: Collection[int] = (),
) -> tuple[list[str], Iterator[list[str]]]:
    """Return the lines of the header, and an iterator over the lines of each row.

    Cells and titles are single lines. `columns` are the titles; without titles there is no header.
    `right` are the indices of columns to align at the right, `whole` those of columns that are
    never folded (nor is the first). `width` is the terminal's in columns, None for other outputs.
    """
    right, whole = set(right), {0, *whole}
    widths = _measure_columns(columns, rows)
    titles = [[column] for column in columns]
    if width is not None and _row_width(widths) > width:
        cell_widths = _measure_columns([""] * len(widths), rows)
        titles = [
            fold_text(text, max(cell_widths[i], _longest_word(text)))
            for i, text in enumerate(columns)
        ]
        widths = [
            max([cell_widths[i], *map(cell_len, title)]) for i, title in enumerate(titles)
        ] or cell_widths
        if not _shrink_columns(widths, width, foldable=set(range(len(widths))) - right - whole):
            n_named = 1 if columns else max(whole) + 1  # without titles, whole columns name a row
            return [], (_stack_cells(columns, row, width, n_named) for row in rows)
    header = _join_columns(titles, widths, right) if columns else []
    return header, (
        _join_columns(
            [[cell] if width is None else fold_text(cell, widths[i]) for i, cell in enumerate(row)],
            widths,
            right,
        )
        for row in rows
    )


def fold_text(text: str, width: int) -> list[str]:
    """Return `text` as lines of at most `width` cells, broken at spaces.

    A word that is longer than a line is broken anywhere.
    """
    if cell_len(text) <= width:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        if cell_len(joined) <= width:
            line = joined
            continue
        if line:
            lines.append(line)
        *full, line = chop_cells(word, width) or [""]
        lines += full
    return [*lines, line]


def _measure_columns(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column that shows its title and all cells on one line."""
    return [max(map(_cell_width, cells)) for cells in zip_longest(columns, *rows, fillvalue="")]


def _cell_width(text: str) -> int:
    return len(text) if text.isascii() else cell_len(text)  # len is much faster: for long tables


def _row_width(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def _shrink_columns(widths: list[int], width: int, foldable: set[int]) -> bool:
    """Narrow the widest foldable columns until the row fits; return whether it does."""
    while _row_width(widths) > width:
        widest = max(foldable, key=widths.__getitem__, default=None)
        if widest is None or widths[widest] <= _MIN_COLUMN_WIDTH:
            return False
        # To just below the next widest, which is the widest then: all shrink in turn.
        next_widest = max((widths[i] for i in foldable - {widest}), default=0)
        least = max(
            _MIN_COLUMN_WIDTH, next_widest - 1, widths[widest] - (_row_width(widths) - width)
        )
        widths[widest] = min(least, widths[widest] - 1)
    return True


def _join_columns(
    cells: Sequence[list[str]], widths: Sequence[int], right: Collection[int]
) -> list[str]:
    """Return the lines of one row; each cell is a list of lines."""
    lines = []
    for i_line in range(max(map(len, cells), default=0)):
        parts = [cell[i_line] if i_line < len(cell) else "" for cell in cells]
        lines.append(
            GAP.join(_pad_cell(p, widths[i], i in right) for i, p in enumerate(parts)).rstrip(" ")
        )
    return lines


def _pad_cell(text: str, width: int, to_right: bool) -> str:
    blank = " " * (min(width, _MAX_PADDING) - _cell_width(text))
    return blank + text if to_right else text + blank


def _stack_cells(columns: Sequence[str], row: Sequence[str], width: int, n_named: int) -> list[str]:
    """Return the name of the row and, indented below it, its other cells after their titles."""
    pairs = []
    for i, cell in enumerate(row[n_named:], n_named):
        if cell:
            pairs.append(f"{columns[i]} {cell}".strip() if columns else cell)
    name = GAP.join(cell for cell in row[:n_named] if cell)
    indent = "  " if name else ""
    return [
        name,
        *(indent + line for line in fold_text(", ".join(pairs), max(1, width - len(indent)))),
    ]


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split(" ")))
