"""Copy the state of one sequence out of a context of llama.cpp, and back in.

Why a state that comes back computes the same as the context that it was taken from. Attention adds
up the cells of a cache in their order. A state holds the cells of the sliding window without those
that have left it, and llama.cpp puts them into the first cells of the cache; in the running context
they stand somewhere in the ring. The same numbers added in another order differ in their last bits.
So whenever a state is taken, the window is put back into the running context as well: then both
have the same cells at the same places. (Full-attention layers keep their cells in the order of the
positions, in both.)
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

from g4cli.host import read_host
from g4cli.runtime.engine.context import SWA_ONLY, Context
from g4cli.runtime.llama.library import load_llama

# Choices: a copy takes at most half of the available memory, which is looked up only for a copy of
# more than _ASKED_BYTES.
_MEMORY_SHARE: Final = 2
_ASKED_BYTES: Final = 64 << 20


def allocate_state(n_bytes: int) -> memoryview:
    """Return memory for a state. Raises MemoryError if it would take too much of what is left.

    It is shared memory, which the limit of the worker's private memory does not count.
    """
    if n_bytes > _ASKED_BYTES and n_bytes > read_host().available_bytes // _MEMORY_SHARE:
        raise MemoryError(f"no room for a copy of {n_bytes} bytes")
    try:
        return memoryview(mmap.mmap(-1, max(1, n_bytes)))[:n_bytes]
    except (OSError, ValueError) as err:
        raise MemoryError(str(err)) from err


def count_state_bytes(context: Context, seq: int = 0) -> int:
    """Return the size of the state of a sequence."""
    return int(load_llama().llama_state_seq_get_size(context.handle, seq))


def count_window_bytes(context: Context, seq: int = 0) -> int:
    """Return how much of the state of a sequence is its sliding window."""
    return int(load_llama().llama_state_seq_get_size_ext(context.handle, seq, SWA_ONLY))


def take_state(context: Context, seq: int = 0) -> memoryview | None:
    """Return the state of a sequence, and order the running context like it; None if that fails.

    Raises MemoryError.
    """
    llama = load_llama()
    state = allocate_state(count_state_bytes(context, seq))
    n_bytes = llama.llama_state_seq_get_data(context.handle, _point_to(state), len(state), seq)
    window = allocate_state(count_window_bytes(context, seq))
    n_window = llama.llama_state_seq_get_data_ext(
        context.handle, _point_to(window), len(window), seq, SWA_ONLY
    )
    if n_bytes != len(state) or not n_window:
        return None
    llama.llama_state_seq_set_data_ext(context.handle, _point_to(window), n_window, seq, SWA_ONLY)
    return state


def put_state(context: Context, state: memoryview | bytearray, seq: int = 0) -> bool:
    """Replace what a sequence holds by `state`; return whether llama.cpp took all of it.

    If not, the sequence may hold anything: truncate it.
    """
    context.truncate(0, seq)
    llama = load_llama()
    n_read = llama.llama_state_seq_set_data(context.handle, _point_to(state), len(state), seq)
    return bool(n_read == len(state))


def _point_to(data: memoryview | bytearray) -> ctypes.Array[ctypes.c_uint8]:
    return (ctypes.c_uint8 * len(data)).from_buffer(data)
