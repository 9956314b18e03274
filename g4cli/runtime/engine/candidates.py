"""The few tokens that a sampler chain can choose, found without looking at each of the vocabulary.

llama.cpp hands a chain all 262,144 tokens with their logits, 3 MiB that are written and read anew
for each token of each answer. A chain that begins with top-k keeps k of them, a greedy one keeps
the best. The vocabulary is seen as blocks of 512 tokens: of k blocks that hold the k largest
maxima, each holds at least one token as good as the smallest of these maxima. So the k best tokens
are among those that reach it, and these are all in blocks whose maxima reach it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from g4cli.runtime.llama.library import load_llama

_BLOCK: Final = 512
_MOST: Final = 4096  # beyond that, llama.cpp's own way is as fast


class CandidateFinder:
    """Finds what a chain may choose, in the logits after one token."""

    def __init__(self, n_vocab: int, n_best: int, others: Sequence[int] = ()) -> None:
        """`n_best`: so many of the best tokens are needed, and `others` whatever their logits."""
        self._n_vocab, self._n_best = n_vocab, n_best
        self._others = np.array(sorted(others), np.int64)
        self._type: Any = ctypes.c_float * n_vocab
        kind = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        self._rows = np.zeros(_MOST, kind)
        c = load_llama()
        data = ctypes.cast(self._rows.ctypes.data, ctypes.POINTER(c.llama_token_data))
        self.array: Any = c.llama_token_data_array(data, 0, -1, False)

    @classmethod
    def can_find(cls, n_vocab: int, n_best: int) -> bool:
        """Return whether there are blocks enough for that."""
        return n_vocab % _BLOCK == 0 and 0 < n_best <= n_vocab // _BLOCK // 2

    def find(self, logits: Any) -> bool:
        """Fill `array` from a pointer to float32 logits; return False if there are too many."""
        address = ctypes.cast(logits, ctypes.c_void_p).value
        if not address:
            return False
        values = np.frombuffer(self._type.from_address(address), np.float32)
        blocks = values.reshape(-1, _BLOCK)
        maxima = blocks.max(axis=1)
        least = np.partition(maxima, -self._n_best)[-self._n_best]
        if not least > -np.inf:  # NaN too
            return False
        chosen = np.flatnonzero(maxima >= least)
        at, inside = np.nonzero(blocks[chosen] >= least)
        ids = chosen[at] * _BLOCK + inside  # ascending
        if len(self._others):
            ids = np.union1d(ids, self._others)
        count = len(ids)
        if count > _MOST:
            return False
        self._rows["id"][:count] = ids
        self._rows["logit"][:count] = values[ids]
        self.array.size, self.array.selected, self.array.sorted = count, -1, False
        return True
