"""Where the rows of tokens are in a state of llama.cpp, and what makes a state fit any sequence.

`llama_state_seq_get_data` gives one piece of bytes, which `llama_state_seq_set_data` takes whole:
llama.cpp has no way to ask for the tokens from one position on. To write only what is new, the rows
of the full-attention layers have to be found in it (src/llama-kv-cache.cpp state_write_meta and
state_write_data, llama.cpp@0c1e57098):

    u32 magic, i32 sequence
    twice, for the full-attention layers and for the sliding ones:
        u32 n_stream, for each stream: u32 n_cells, and unless that is 0:
            for each cell: i32 position, u32 1, i32 sequence
            u32 v_trans, u32 n_layer
            for each layer: i32 type, u64 row_bytes, n_cells rows of keys
            for each layer: i32 type, u64 row_bytes, n_cells rows of values (unless transposed)

The cells of full-attention layers are in the order of their positions, 0 upwards. The sliding ones
are those of the window, in the order in which the cache holds them.

Sequences of a context with several differ in the number of the stream alone, so a state is saved as
that of sequence 0 of a context with one, and can be restored to any.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from g4cli.store.states.rows import BLOCK_TOKENS, Data, Table, Tables

_MAGIC: Final = 0xAF143CD8  # io_magic, src/llama-context.cpp
_U32: Final = struct.Struct("<I")
# Lines of the table above:
_START: Final = struct.Struct("<Ii")  # magic, sequence
_CELL: Final = struct.Struct("<iIi")  # position, 1, sequence
_CELL_SEQUENCE: Final = 8  # where the sequence is in a cell
_DATA: Final = struct.Struct("<II")  # v_trans, n_layer
_TABLE: Final = struct.Struct("<iQ")  # type, row_bytes
# Choices, far beyond any model: a damaged state must not make g4 read for ever.
_MAX_STREAMS: Final = 1024
_MAX_LAYERS: Final = 1024
_MAX_ROW_BYTES: Final = 1 << 24


class UnknownLayoutError(Exception):
    """These bytes are not a state as this module knows it."""


class _Rows(NamedTuple):
    """The rows of one layer's keys or values: where they begin, and the bytes of one."""

    start: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class _Cache:
    """One of the two caches in a state. All its cells are of one stream, the `stream`-th.

    `counts_start`: where the first n_cells is, `cells_start` and `end`: places in the state too.
    """

    n_stream: int
    stream: int
    n_cells: int
    counts_start: int
    cells_start: int
    rows: tuple[_Rows, ...]
    end: int


def find_tables(state: Data, n_tokens: int) -> Tables:
    """Return where the rows of the full-attention layers are, by which the store divides a state.

    Raises UnknownLayoutError.
    `state` holds the first `n_tokens` positions of sequence 0, as `make_portable` returns it.
    """
    full, _window = _read_caches(memoryview(state), n_tokens)
    n_blocks = n_tokens // BLOCK_TOKENS
    tables, end_of_blocks = [], 0
    for start, row_bytes in full.rows:
        tables.append(Table(inline_bytes=start - end_of_blocks, row_bytes=row_bytes))
        end_of_blocks = start + n_blocks * BLOCK_TOKENS * row_bytes
    return Tables(len(memoryview(state)), tuple(tables), n_blocks)


def make_portable(state: memoryview, n_tokens: int) -> bytearray | memoryview:
    """Return a state of any sequence as that of sequence 0 of a context with one sequence.

    Raises UnknownLayoutError unless it holds the positions 0 to `n_tokens` - 1.
    """
    full, window = _read_caches(state, n_tokens)
    if full.n_stream == 1 and full.stream == 0:
        return state
    out = bytearray(state[: _START.size])
    _START.pack_into(out, 0, _MAGIC, 0)
    for cache in (full, window):
        out += _U32.pack(1) + _U32.pack(cache.n_cells)
        first = len(out)
        rows = cache.cells_start + cache.n_cells * _CELL.size
        out += state[cache.cells_start : rows]
        for index in range(cache.n_cells):
            _U32.pack_into(out, first + index * _CELL.size + _CELL_SEQUENCE, 0)
        out += state[rows : _end_of_rows(cache)]
    return out


def fit_to_context(state: memoryview, n_tokens: int, n_stream: int) -> bytearray | memoryview:
    """Return a portable state as a context of `n_stream` sequences takes it.

    Which sequence it is restored to is told to llama.cpp apart from it. Raises UnknownLayoutError.
    """
    full, window = _read_caches(state, n_tokens)
    if n_stream == 1:
        return state
    out = bytearray(state[: _START.size])
    for cache in (full, window):
        out += _U32.pack(n_stream) + state[cache.counts_start : cache.end]
        out += bytes(_U32.size * (n_stream - 1))
    return out


def _end_of_rows(cache: _Cache) -> int:
    # Behind the rows, the cache ends with the cell counts, all 0, of the streams after this one.
    return cache.end - _U32.size * (cache.n_stream - 1 - cache.stream)


def _read_caches(state: memoryview, n_tokens: int) -> tuple[_Cache, _Cache]:
    """Return both caches of a state with the positions 0 to `n_tokens` - 1."""
    try:
        magic, _sequence = _START.unpack_from(state)
        if magic != _MAGIC:
            raise UnknownLayoutError("another magic number")
        full = _read_cache(state, _START.size)
        window = _read_cache(state, full.end)
    except struct.error as err:
        raise UnknownLayoutError("it is too short") from err
    if window.end != len(state):
        raise UnknownLayoutError("something follows the window")
    if _list_positions(state, full) != list(range(n_tokens)):
        raise UnknownLayoutError("the cells are not in the order of their positions")
    in_window = sorted(_list_positions(state, window))
    if in_window != list(range(n_tokens - len(in_window), n_tokens)) or not in_window:
        raise UnknownLayoutError("the window has gaps")
    return full, window


def _list_positions(state: memoryview, cache: _Cache) -> list[int]:
    cells = state[cache.cells_start : cache.cells_start + cache.n_cells * _CELL.size]
    return [position for position, _one, _sequence in _CELL.iter_unpack(cells)]


def _read_cache(state: memoryview, place: int) -> _Cache:
    (n_stream,) = _U32.unpack_from(state, place)
    place += _U32.size
    if not 1 <= n_stream <= _MAX_STREAMS:
        raise UnknownLayoutError(f"{n_stream} streams")
    counts_start, used = place, None
    for stream in range(n_stream):
        (n_cells,) = _U32.unpack_from(state, place)
        place += _U32.size
        if n_cells == 0:
            continue
        if used is not None:
            raise UnknownLayoutError("cells in two streams")
        cells = place
        place += n_cells * _CELL.size
        if place > len(state):
            raise UnknownLayoutError("more cells than bytes")
        rows, place = _read_rows(state, place, n_cells)
        used = (stream, n_cells, cells, rows)
    if used is None:
        raise UnknownLayoutError("no cells")
    stream, n_cells, cells, rows = used
    return _Cache(n_stream, stream, n_cells, counts_start, cells, rows, place)


def _read_rows(state: memoryview, place: int, n_cells: int) -> tuple[tuple[_Rows, ...], int]:
    """Return the rows of each layer's keys, then of its values; and where the last ones end."""
    v_trans, n_layer = _DATA.unpack_from(state, place)
    place += _DATA.size
    if v_trans != 0 or not 1 <= n_layer <= _MAX_LAYERS:
        raise UnknownLayoutError("values are transposed, or there are no layers")
    rows = []
    for _table in range(2 * n_layer):
        _type, row_bytes = _TABLE.unpack_from(state, place)
        place += _TABLE.size
        if not 1 <= row_bytes <= _MAX_ROW_BYTES or place + n_cells * row_bytes > len(state):
            raise UnknownLayoutError("rows that are longer than the state")
        rows.append(_Rows(place, row_bytes))
        place += n_cells * row_bytes
    return tuple(rows), place
