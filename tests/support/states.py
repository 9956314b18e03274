"""Cut a saved state and put it together again, as the folder of states does by way of files."""

from __future__ import annotations

from g4cli.store.states.rows import Data, Tables, cut_block, cut_rest, fill_block, fill_rest


def cut_and_join(state: Data, tables: Tables) -> bytearray:
    """Return the state that its blocks and its rest give."""
    joined = bytearray(tables.n_bytes)
    with memoryview(joined) as view:
        for index in range(tables.n_blocks):
            fill_block(view, tables, index, cut_block(state, tables, index))
        fill_rest(view, tables, cut_rest(state, tables))
    return joined
