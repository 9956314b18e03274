"""One sequence of a context that several share, evaluated by itself: what drafting needs of it."""

from __future__ import annotations

from collections.abc import Sequence

from g4cli.runtime.engine.batch import Batch
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.drafting import N_OUTPUTS


class SequenceContext:
    """Evaluates tokens of the sequence `number` alone; the others stay as they are."""

    def __init__(self, context: Context) -> None:
        self.number = 0  # llama.cpp's id
        self._context = context
        self._batch = Batch(N_OUTPUTS, context.n_parallel)

    @property
    def n_ctx(self) -> int:
        """Return how many tokens the sequence has room for."""
        return self._context.n_ctx

    @property
    def row(self) -> int:
        """Return the index, in what was evaluated last, of the token whose logits are read."""
        return self._context.row

    def decode_one(self, token: int) -> bool:
        """Evaluate one token. Return False if interrupted. Raises ContextFull or RuntimeFailed."""
        return self.decode_with_logits((token,))

    def decode_with_logits(self, tokens: Sequence[int]) -> bool:
        """Evaluate up to N_OUTPUTS tokens with logits for each; `row` is the first one.

        Return False if interrupted: then none of them is in the KV cache.
        """
        self._batch.clear()
        position = self._context.find_last_position(self.number) + 1
        for index, token in enumerate(tokens):
            self._batch.add_tokens((token,), position + index, self.number, with_logits=True)
        done = self._context.decode_batch(self._batch.c_batch)
        self._context.row = 0
        return done

    def advance_row(self) -> None:
        """Read the logits of the token after that from now on."""
        self._context.advance_row()

    def truncate(self, n_past: int) -> None:
        """Remove all tokens of the sequence from position `n_past` on. Raises RuntimeFailed."""
        self._context.truncate(n_past, self.number)

    def copy_logits(self) -> bytes:
        """Return a copy of the logits of `row` as bytes, to compare bit by bit."""
        return self._context.copy_logits()
