"""The few tokens that a sampler chain can choose, shown to it without the rest of the vocabulary.

llama.cpp hands a chain all 262,144 tokens with their logits, 3 MiB that are written and read anew
for each token of each answer. A chain that begins with top-k keeps k of them, a greedy one keeps
the best. The vocabulary is seen as blocks of 512 tokens: of k blocks that hold the k largest
maxima, each holds at least one token as good as the smallest of these maxima. So the k best tokens
are among those that reach it, and these are all in blocks whose maxima reach it.

Where a grammar allows only a few tokens, the chain is shown these alone: any other one could just
as well have a logit of minus infinity.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.runtime.llama.library import load_llama

_BLOCK: Final = 512  # the square root of 262,144: as many blocks as tokens in a block
MAX_CANDIDATES: Final = 4096
"""Beyond that, llama.cpp's own way is as fast."""


class CandidateArray:
    """A llama_token_data_array of up to MAX_CANDIDATES tokens."""

    def __init__(self) -> None:
        kind = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        self._rows = np.zeros(MAX_CANDIDATES, kind)
        c = load_llama()
        data = ctypes.cast(self._rows.ctypes.data, ctypes.POINTER(c.llama_token_data))
        self.array: Any = c.llama_token_data_array(data, 0, -1, False)

    def fill(self, ids: NDArray[np.int64], logits: NDArray[np.float32]) -> None:
        """Hold the tokens `ids` (ascending) with their logits, out of `logits` of all tokens."""
        count = len(ids)
        self._rows["id"][:count] = ids
        self._rows["logit"][:count] = logits[ids]
        self.array.size, self.array.selected, self.array.sorted = count, -1, False


class CandidateFinder:
    """Finds what a sampler chain may choose, in the logits after one token (float32[n_vocab])."""

    def __init__(self, n_vocab: int, n_best: int, others: Sequence[int] = ()) -> None:
        """`n_best`: how many of the best tokens are needed. `others` are needed in any case: their
        logits are raised by the chain (logit_bias).
        """
        self._n_vocab, self._n_best = n_vocab, n_best
        self._others = np.array(sorted(others), np.int64)
        self._type: Any = ctypes.c_float * n_vocab
        self._candidates = CandidateArray()

    @property
    def array(self) -> Any:
        """Return the llama_token_data_array that `find` fills."""
        return self._candidates.array

    @classmethod
    def can_find(cls, n_vocab: int, n_best: int) -> bool:
        """Return whether the vocabulary is made of blocks, twice as many as `n_best` at least.

        A choice: with fewer, most blocks would have to be looked through.
        """
        return n_vocab % _BLOCK == 0 and 0 < n_best <= n_vocab // _BLOCK // 2

    def find(self, logits: Any) -> bool:
        """Fill `array` from a pointer to float32 logits; return False if that cannot be done.

        It cannot where logits are NaN, fewer than `n_best` blocks hold a finite one, or too many
        tokens are equally good.
        """
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
        rows, columns = np.nonzero(blocks[chosen] >= least)
        ids = chosen[rows] * _BLOCK + columns  # ascending
        if len(self._others):
            ids = np.union1d(ids, self._others)
        if len(ids) > MAX_CANDIDATES:
            return False
        self._candidates.fill(ids, values)
        return True
