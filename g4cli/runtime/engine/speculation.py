"""Speculative decoding: guess some tokens, let the model look at all at once, keep what it agrees with.

A batch of four tokens costs the model little more than one, because each weight is read once. Every token is
sampled from the model's own scores after the tokens before it, in order and by the same sampler: guesses
change the speed of an answer, not its distribution.

Its letters they could change: a batch is computed by other kernels than a single token, the last bits of
scores differ, and a near tie falls the other way. Two such differences are known on CPUs: matrices of floats
(tinyBLAS from two tokens on: `float_matrices`), and F16 caches of 512 cells or more, whose attention is split
among threads for a single token only (ops.cpp ggml_compute_forward_flash_attn_ext_f16); quantised
matrices give equal bits for up to 7 tokens (llama.cpp@0c1e57098). So an exact speculation guesses at
temperature 0 only in networks without such matrices, and only where a single token and a batch were compared
and found equal to the bit: kernels depend on shapes alone, so one comparison holds until the caches grow by
their next 256 cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from g4cli.chat.lookup import Lookup, Pace
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.drafting import N_GUESSES, N_OUTPUTS, Drafted, Exactness

if TYPE_CHECKING:
    from g4cli.runtime.engine.options import ModelOptions

# What a round costs beyond a single token, in single tokens, and its guesses by a network
# (tests/bench/bench_draft.py).
_PRICE: Final = 0.7
# Four tokens read 29 experts of 128 where one reads 8: twice the weights in all (26B; computed only).
_EXPERTS_PRICE: Final = 1.5
_DRAFT_PRICE: Final = 0.25
_CELLS: Final = 256  # caches are looked at in steps of so many cells (llama_kv_cache::get_n_kv)


class Guesser(Protocol):
    """Where guesses come from."""

    @property
    def price(self) -> float: ...
    def follow(self, tokens: Sequence[int]) -> None: ...
    def push(self, token: int) -> None: ...
    def guess(self, token: int, position: int, /) -> list[int]: ...
    def close(self) -> None: ...


class LookupGuesser:
    """Guesses from the text of the conversation itself."""

    price: Final = 0.0

    def __init__(self) -> None:
        self._lookup = Lookup()

    def follow(self, tokens: Sequence[int]) -> None:
        """Take the prompt as evaluated."""
        self._lookup.follow(tokens)

    def push(self, token: int) -> None:
        """Take the next evaluated token."""
        self._lookup.push(token)

    def guess(self, token: int, _position: int) -> list[int]:
        """Return what may come after `token`."""
        return self._lookup.guess(token, N_GUESSES)

    def close(self) -> None:
        """Free nothing."""


class DraftGuesser:
    """Guesses by the drafting network that was made for the model."""

    price: Final = _DRAFT_PRICE

    def __init__(self, path: Path, context: Context, options: ModelOptions) -> None:
        """Load the network. Raises what `Drafter` raises."""
        from g4cli.runtime.engine.drafter import Drafter

        self._drafter = Drafter(path, context, options)

    def follow(self, tokens: Sequence[int]) -> None:
        """Do nothing: the network reads the model's own memory."""

    def push(self, token: int) -> None:
        """Do nothing either."""

    def guess(self, token: int, position: int) -> list[int]:
        """Return what may come after `token`."""
        return self._drafter.guess(token, N_GUESSES, position)

    def close(self) -> None:
        """Free the network."""
        self._drafter.close()


class Speculation:
    """Evaluates tokens for the engine, several at once where guesses allow it."""

    def __init__(
        self, context: Context, guesser: Guesser, exactness: Exactness, *, has_experts: bool = False
    ) -> None:
        self.drafted = Drafted()
        self._exactness = exactness
        self._price = guesser.price + (_EXPERTS_PRICE if has_experts else _PRICE)
        self._stopped_at = 0 if exactness == "impossible" else None
        self._context, self._guesser = context, guesser
        self._pace = Pace(0)
        self._pending: list[int] = []  # guesses in memory that the model has not agreed with yet
        self._kept = 0
        self._compares = False
        self._equal_at: set[int] = set()
        self.begin(0, greedy=False)

    def begin(self, n_past: int, *, greedy: bool) -> None:
        """Start an answer after the `n_past` tokens of the last one."""
        self.settle(n_past)
        self._compares = greedy and self._exactness != "not asked for"
        self.drafted = Drafted(stopped_at=self._stopped_at if self._compares else None)
        self._pace = Pace(self._price)

    def follow(self, tokens: Sequence[int], *, restored: bool) -> None:
        """Take note of an evaluated prompt; `restored`: the cells of sliding layers lie elsewhere now."""
        self._guesser.follow(tokens)
        if restored:
            self._equal_at.clear()

    def advance(self, token: int, n_past: int) -> bool:
        """Evaluate `token` after the `n_past` tokens before it; return False if interrupted."""
        if self._pending and self._pending[0] == token:
            del self._pending[0]
            self._kept += 1
            self.drafted.kept += 1
            self._context.next_row()
            if not self._pending:
                self._close_round()
            done = True
        else:
            self.settle(n_past)
            guesses = self._guesses(token, n_past)
            done = (
                self._evaluate(token, guesses, n_past)
                if guesses
                else self._context.decode_one(token)
            )
        if done:
            self._guesser.push(token)
        return done

    def settle(self, n_past: int) -> None:
        """Forget the guesses that the model did not agree with: `n_past` tokens stay in memory."""
        if self._pending:
            self._pending.clear()
            self._context.keep(n_past)
            self._close_round()

    def close(self) -> None:
        """Free the guesser."""
        self._guesser.close()

    def _close_round(self) -> None:
        self._pace.settle(self._kept)
        self._kept = 0

    def _guesses(self, token: int, n_past: int) -> list[int]:
        """Return N_GUESSES tokens that may follow, or none where they would not pay or change the answer."""
        fits = n_past + N_OUTPUTS <= self._context.n_ctx
        if not (fits and self._pace.is_due and self._may_be_equal(n_past)):
            self._pace.pass_by()
            return []
        guesses = self._guesser.guess(token, n_past)
        return guesses if len(guesses) == N_GUESSES else []

    def _may_be_equal(self, n_past: int) -> bool:
        if not self._compares:
            return True
        if self._stopped_at is not None and n_past >= self._stopped_at:
            return False
        return n_past // _CELLS == (n_past + N_GUESSES) // _CELLS

    def _evaluate(self, token: int, guesses: list[int], n_past: int) -> bool:
        """Evaluate `token` with `guesses` behind it, or alone if scores would differ; False: interrupted."""
        block = n_past // _CELLS
        if self._compares and block not in self._equal_at:
            equal = self._compare(token, guesses, n_past)
            if equal is None:
                return False
            if not equal:
                self._stopped_at = self.drafted.stopped_at = n_past
                self._context.keep(n_past)
                return self._context.decode_one(token)
            self._equal_at.add(block)
        elif not self._context.decode_run([token, *guesses]):
            return False
        self._pending = guesses
        self.drafted.guessed += len(guesses)
        return True

    def _compare(self, token: int, guesses: list[int], n_past: int) -> bool | None:
        """Evaluate `token` alone, then with `guesses`; return whether its scores are the same bit for bit.

        None if interrupted. The run stays in memory.
        """
        if not self._context.decode_one(token):
            return None
        alone = self._context.score_bytes()
        self._context.keep(n_past)
        if not self._context.decode_run([token, *guesses]):
            return None
        return alone == self._context.score_bytes()
