"""A batch of tokens of several sequences, in the arrays that llama_decode reads."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from g4cli.runtime.llama.library import load_llama


class Batch:
    """A llama_batch that is filled anew for each evaluation.

    llama.cpp evaluates one token of each of several sequences together only if the numbers of the
    sequences follow each other in the batch without a gap (llama_batch_allocr::split_equal,
    src/llama-batch.cpp, llama.cpp@0c1e57098): add sequences in ascending order.
    """

    def __init__(self, n_tokens: int, n_parallel: int) -> None:
        """Make arrays for `n_tokens` tokens of the sequences 0 to `n_parallel` - 1."""
        self._tokens = np.zeros(n_tokens, np.int32)
        self._positions = np.zeros(n_tokens, np.int32)
        self._counts = np.ones(n_tokens, np.int32)  # sequences of each token
        # The numbers of all sequences, and the address of each: tokens point to the one of theirs.
        self._sequences = np.arange(n_parallel, dtype=np.int32)
        self._addresses = self._sequences.ctypes.data + self._sequences.strides[0] * np.arange(
            n_parallel, dtype=np.uintp
        )
        self._pointers = np.zeros(n_tokens, np.uintp)
        self._logits = np.zeros(n_tokens, np.int8)
        self._batch: Any = load_llama().llama_batch(
            n_tokens=0,
            token=_point_to(self._tokens, ctypes.c_int32),
            embd=None,
            pos=_point_to(self._positions, ctypes.c_int32),
            n_seq_id=_point_to(self._counts, ctypes.c_int32),
            seq_id=_point_to(self._pointers, ctypes.POINTER(ctypes.c_int32)),
            logits=_point_to(self._logits, ctypes.c_int8),
        )
        self.n_tokens = 0

    @property
    def c_batch(self) -> Any:
        """Return the llama_batch, valid until the next `clear`."""
        self._batch.n_tokens = self.n_tokens
        return self._batch

    def clear(self) -> None:
        """Remove all tokens."""
        self.n_tokens = 0

    def add_tokens(
        self, tokens: Sequence[int], position: int, seq: int, *, with_logits: bool
    ) -> int:
        """Append tokens of sequence `seq` from `position` on; return the row of the last one.

        `with_logits`: the logits after the last one are computed, as this row of the batch.
        """
        first, end = self.n_tokens, self.n_tokens + len(tokens)
        if len(tokens) == 1:  # of an answer: a slice takes longer
            self._tokens[first], self._positions[first] = tokens[0], position
            self._pointers[first] = self._addresses[seq]
        else:
            self._tokens[first:end] = tokens
            self._positions[first:end] = np.arange(position, position + len(tokens))
            self._pointers[first:end] = self._addresses[seq]
            self._logits[first:end] = 0
        self._logits[end - 1] = with_logits
        self.n_tokens = end
        return end - 1


def _point_to(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
