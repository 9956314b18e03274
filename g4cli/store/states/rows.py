"""Cut a state into blocks of tokens, and put it together again.

A state holds tables with a row for each token: the keys of a full-attention layer, its values. A
longer state of the same conversation has the same rows and more behind them, in each table. Cut by
tokens, the blocks of the shorter one are blocks of the longer one too, and need not be written
again. What is not such a table, like the window of a sliding layer, is inline.

    state   inline · rows of table 1 · inline · rows of table 2 · ... · inline
    block   the rows of a fixed number of tokens, of all tables one after the other
    rest    everything else in order: what is inline, and the rows behind the last whole block

Whatever possible `Tables` say of a state, what was cut is put together to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

Data: TypeAlias = bytes | bytearray | memoryview
BLOCK_TOKENS: Final = 256  # a choice: some MiB of a usual model


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of `row_bytes` each, behind `inline_bytes` that belong to no table."""

    inline_bytes: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Tables:
    """Where the tables of a state of `n_bytes` are; each has `n_blocks` whole blocks of rows."""

    n_bytes: int
    tables: tuple[Table, ...] = ()
    n_blocks: int = 0

    @property
    def block_bytes(self) -> int:
        """Return the size of a block."""
        return BLOCK_TOKENS * sum(table.row_bytes for table in self.tables)

    @property
    def rest_bytes(self) -> int:
        """Return the size of the rest."""
        return self.n_bytes - self.n_blocks * self.block_bytes

    def is_possible(self) -> bool:
        """Return whether the tables fit into the state: whoever reads them from a file asks."""
        sizes = (self.n_bytes, self.n_blocks)
        rows = [n for table in self.tables for n in (table.inline_bytes, table.row_bytes)]
        if min((*sizes, *rows), default=0) < 0:
            return False
        inline = sum(table.inline_bytes for table in self.tables)
        return inline + self.n_blocks * self.block_bytes <= self.n_bytes


def cut_block(state: Data, tables: Tables, index: int) -> bytes:
    """Return the block of that index."""
    view = memoryview(state)
    pieces = []
    for start, table in _iter_starts(tables):
        size = table.row_bytes * BLOCK_TOKENS
        pieces.append(view[start + index * size : start + (index + 1) * size])
    return b"".join(pieces)


def cut_rest(state: Data, tables: Tables) -> bytes:
    """Return what is in no block."""
    view = memoryview(state)
    pieces, done = [], 0
    for start, table in _iter_starts(tables):
        pieces.append(view[done:start])
        done = start + table.row_bytes * BLOCK_TOKENS * tables.n_blocks
    pieces.append(view[done : tables.n_bytes])
    return b"".join(pieces)


def fill_block(state: memoryview, tables: Tables, index: int, block: Data) -> None:
    """Copy a block to where its rows belong."""
    view, done = memoryview(block), 0
    for start, table in _iter_starts(tables):
        size = table.row_bytes * BLOCK_TOKENS
        state[start + index * size : start + (index + 1) * size] = view[done : done + size]
        done += size


def fill_rest(state: memoryview, tables: Tables, rest: Data) -> None:
    """Copy the rest to where it belongs."""
    view, filled, used = memoryview(rest), 0, 0  # offsets in the state and in the rest
    for start, table in _iter_starts(tables):
        state[filled:start] = view[used : used + start - filled]
        used += start - filled
        filled = start + table.row_bytes * BLOCK_TOKENS * tables.n_blocks
    state[filled : tables.n_bytes] = view[used:]


def _iter_starts(tables: Tables) -> Iterator[tuple[int, Table]]:
    """Yield each table with the offset in the state at which its rows begin."""
    offset = 0
    for table in tables.tables:
        offset += table.inline_bytes
        yield offset, table
        offset += table.row_bytes * BLOCK_TOKENS * tables.n_blocks
