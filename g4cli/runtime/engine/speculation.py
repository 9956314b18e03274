"""Speculative decoding: draft tokens, evaluate them in one batch, accept those that are right.

Why it is faster: decoding is bound by memory. Each step reads every weight once, whether it
computes one token or four, so a batch of four tokens costs little more than one. A round evaluates
the token that was just sampled together with N_DRAFT drafted ones. Then tokens are sampled as
usual, from the model's own logits, in order, by the same sampler. While the sampled token is the
drafted one, its successor's logits are there already, and the token costs nothing; at the first
difference the context is truncated to what was accepted. Drafts therefore change the speed of an
answer and not its distribution.

Why greedy answers could still change: a batch runs other kernels than a single token, the last bits
of the logits differ, and of two nearly equal tokens the other one may win. Two such differences are
known on CPUs (llama.cpp@0c1e57098). Matrices of floats are multiplied by tinyBLAS from two tokens
on (`find_float_matrices`). F16 caches of 512 cells or more are attended to by all threads for a
single token only (ops.cpp, ggml_compute_forward_flash_attn_ext_f16). Quantized matrices give equal
bits for up to 7 tokens.

So where exactness is asked for (`--draft auto`), a greedy answer is drafted only in models without
float matrices, and only where a single token and a batch were compared and found equal to the bit.
Kernels are chosen by shapes alone, and shapes change when the KV cache grows by its next 256 cells:
one comparison holds for such a block. Where the comparison fails, nothing is drafted from that
token on.

When it pays: a rejected draft costs time. `DraftPacer` waits longer between rounds while they lose.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from g4cli.chat import DraftStats
from g4cli.chat.lookup import DraftPacer, PromptLookup
from g4cli.estimate import N_DRAFT
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.drafting import N_OUTPUTS, Exactness

# In the time of single tokens (tests/bench/bench_draft.py): what a round takes beyond one of them.
_ROUND_COST: Final = 0.7
# Computed: of 26B, four tokens read 29 experts of 128 where one reads 8, twice the weights in all.
_ROUND_COST_EXPERTS: Final = 1.5
_BLOCK_CELLS: Final = 256  # llama.cpp attends to the cache in steps of so many (get_n_kv)


class Drafter(Protocol):
    """Proposes tokens: a LookupDrafter or a `draft_model.DraftModel`.

    `set_tokens` is told the evaluated prompt, `add_token` each evaluated token after it.
    `draft_round` returns N_DRAFT tokens that may follow a token at a position, or fewer if it finds
    none. `cost` is the time that N_DRAFT of them take, in evaluated single tokens.
    """

    @property
    def cost(self) -> float: ...
    def set_tokens(self, tokens: Sequence[int]) -> None: ...
    def add_token(self, token: int) -> None: ...
    def draft_round(self, token: int, position: int, /) -> list[int]: ...
    def close(self) -> None: ...


class LookupDrafter(PromptLookup):
    """Drafts by copying what followed the same tokens earlier in the conversation."""

    cost: Final = 0.0

    def draft_round(self, token: int, _position: int) -> list[int]:
        """Return N_DRAFT tokens that may follow `token`, or none."""
        return self.draft_tokens(token, N_DRAFT)

    def close(self) -> None:
        """Nothing is to be freed."""


class Speculation:
    """Evaluates the tokens of answers for the engine, several at once where drafts allow it."""

    def __init__(
        self,
        context: Context,
        drafter: Drafter,
        exactness: Exactness,
        *,
        has_experts: bool = False,
    ) -> None:
        """`context` must have been made with N_OUTPUTS rows of logits for a sequence."""
        self.seq = 0  # the number of the sequence that the tokens are of
        self.drafted = DraftStats()
        self._exactness = exactness
        self._cost = drafter.cost + (_ROUND_COST_EXPERTS if has_experts else _ROUND_COST)
        # The position from which on greedy answers are not drafted any more.
        self._stopped_at = 0 if exactness == "impossible" else None
        self._context, self._drafter = context, drafter
        self._pacer = DraftPacer(0)
        self._pending: list[int] = []  # drafted tokens in the KV cache, not accepted yet
        self._n_accepted = 0  # in this round
        self._is_exact = False  # whether the answer must be the same as without drafts
        self._equal_blocks: set[int] = set()  # of cells, where a comparison found equal logits
        self.begin_answer(0, greedy=False)

    def begin_answer(self, n_past: int, *, greedy: bool) -> None:
        """Start an answer after the `n_past` tokens that are in the context."""
        self.drop_rejected(n_past)
        self._is_exact = greedy and self._exactness != "not asked for"
        self.drafted = DraftStats(stopped_at=self._stopped_at if self._is_exact else None)
        self._pacer = DraftPacer(self._cost)

    def set_prompt(self, tokens: Sequence[int], *, restored: bool) -> None:
        """Take `tokens` as evaluated.

        `restored`: a checkpoint of the window was restored, which may have moved its cells: then a
        batch has to be compared with a single token anew.
        """
        self._drafter.set_tokens(tokens)
        if restored:
            self.note_moved_cells()

    def note_moved_cells(self) -> None:
        """Compare a batch with a single token anew: the cells of the window may have moved."""
        self._equal_blocks.clear()

    def advance(self, token: int, n_past: int) -> bool:
        """Evaluate `token` after the `n_past` tokens before it; return False if interrupted.

        The context's `row` is then the one whose logits follow `token`. Raises ContextFull.
        """
        if self._pending and self._pending[0] == token:
            self._accept_draft()
            done = True
        else:
            self.drop_rejected(n_past)
            draft = self._draft_tokens(token, n_past)
            done = (
                self._evaluate_round(token, draft, n_past)
                if draft
                else self._context.decode_with_logits([token], self.seq)
            )
        if done:
            self._drafter.add_token(token)
        return done

    def drop_rejected(self, n_past: int) -> None:
        """Truncate the context to `n_past` tokens: pending drafts were not sampled."""
        if self._pending:
            self._pending.clear()
            self._context.truncate(n_past, self.seq)
            self._end_round()

    def close(self) -> None:
        """Free the drafter."""
        self._drafter.close()

    def _accept_draft(self) -> None:
        del self._pending[0]
        self._n_accepted += 1
        self.drafted.n_accepted += 1
        self._context.advance_row()
        if not self._pending:
            self._end_round()

    def _end_round(self) -> None:
        self._pacer.record_round(self._n_accepted)
        self._n_accepted = 0

    def _draft_tokens(self, token: int, n_past: int) -> list[int]:
        """Return N_DRAFT tokens that may follow; none where they do not pay or are not exact."""
        fits = n_past + N_OUTPUTS <= self._context.n_ctx
        if not (fits and self._pacer.is_due and self._may_be_exact(n_past)):
            self._pacer.count_single_token()
            return []
        draft = self._drafter.draft_round(token, n_past)
        return draft if len(draft) == N_DRAFT else []

    def _may_be_exact(self, n_past: int) -> bool:
        """Return whether a round after `n_past` tokens may be as exact as this answer has to be."""
        if not self._is_exact:
            return True
        if self._stopped_at is not None and n_past >= self._stopped_at:
            return False
        # Within one block of cells: a batch across its border is evaluated with the larger shape.
        return n_past // _BLOCK_CELLS == (n_past + N_DRAFT) // _BLOCK_CELLS

    def _evaluate_round(self, token: int, draft: list[int], n_past: int) -> bool:
        """Evaluate `token` with `draft` after it, or alone where logits would differ.

        Return False if interrupted.
        """
        block = n_past // _BLOCK_CELLS
        if self._is_exact and block not in self._equal_blocks:
            equal = self._compare_with_single(token, draft, n_past)
            if equal is None:
                return False
            if not equal:
                self._stopped_at = self.drafted.stopped_at = n_past
                self._context.truncate(n_past, self.seq)
                return self._context.decode_with_logits([token], self.seq)
            self._equal_blocks.add(block)
        elif not self._context.decode_with_logits([token, *draft], self.seq):
            return False
        self._pending = draft
        self.drafted.n_drafted += len(draft)
        return True

    def _compare_with_single(self, token: int, draft: list[int], n_past: int) -> bool | None:
        """Evaluate `token` alone, then with `draft`; return whether its logits are equal.

        They are compared bit by bit. None if interrupted. The batch stays in the KV cache.
        """
        if not self._context.decode_with_logits([token], self.seq):
            return None
        alone = self._context.copy_logits()
        self._context.truncate(n_past, self.seq)
        if not self._context.decode_with_logits([token, *draft], self.seq):
            return None
        return alone == self._context.copy_logits()
