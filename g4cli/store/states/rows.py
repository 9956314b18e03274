"""Cut a state into blocks of tokens, and put it together again.

A state holds tables with a row for each token: one with the keys of a full-attention layer, one
with its values, and so on. A longer state of the same conversation has the same rows and more
behind them, in each table. Cut by tokens, the blocks of the shorter one are blocks of the longer
one too, and need not be written again. What is not such a table is inline: the KV cache of
sliding-window layers, whose rows change, and llama.cpp's own records before each table.

    state   inline · rows of table 1 · inline · rows of table 2 · ... · inline
    block   the rows of a fixed number of tokens, of all tables one after the other
    rest    everything else in order: what is inline, and the rows behind the last whole block

Whatever possible `Tables` say of a state, what was cut is put together to the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    """Return the block with the number `index`, from 0 on."""
    return _cut_slices(state, _block_slices(tables, index))


def cut_rest(state: Data, tables: Tables) -> bytes:
    """Return what is in no block."""
    return _cut_slices(state, _rest_slices(tables))


def fill_block(state: memoryview, tables: Tables, index: int, block: Data) -> None:
    """Copy a block to where its rows belong: the inverse of cut_block."""
    _fill_slices(state, _block_slices(tables, index), block)


def fill_rest(state: memoryview, tables: Tables, rest: Data) -> None:
    """Copy the rest to where it belongs: the inverse of cut_rest."""
    _fill_slices(state, _rest_slices(tables), rest)


def _cut_slices(state: Data, slices: Iterable[slice]) -> bytes:
    view = memoryview(state)
    return b"".join(view[part] for part in slices)


def _fill_slices(state: memoryview, slices: Iterable[slice], data: Data) -> None:
    view, done = memoryview(data), 0
    for part in slices:
        size = part.stop - part.start
        state[part] = view[done : done + size]
        done += size


def _block_slices(tables: Tables, index: int) -> Iterator[slice]:
    """Yield where the state holds the rows of a block, for each table."""
    for start, size in _iter_tables(tables):
        yield slice(start + index * size, start + (index + 1) * size)


def _rest_slices(tables: Tables) -> Iterator[slice]:
    """Yield where the state holds the rest: between the blocks of two tables, and at the end."""
    done = 0
    for start, size in _iter_tables(tables):
        yield slice(done, start)
        done = start + tables.n_blocks * size
    yield slice(done, tables.n_bytes)


def _iter_tables(tables: Tables) -> Iterator[tuple[int, int]]:
    """Yield where in the state each table's rows begin, and the bytes that it has of each block."""
    offset = 0
    for table in tables.tables:
        size = table.row_bytes * BLOCK_TOKENS
        offset += table.inline_bytes
        yield offset, size
        offset += tables.n_blocks * size
