"""Detects that a stream of token ids repeats itself. Needs no text, no model and no clock.

`LoopDetector.feed` takes one id and returns None until the stream has repeated for longer than
anybody would ask for; then it returns a `Loop`:

kind          what repeats                                          stops after
exact         running text that the model is certain of             160 tokens and 3 or 4 copies
              one or two tokens                                     250 tokens
              a longer cycle, up to 2,048 tokens                    392 tokens and 3 or 4 copies
              a row of a grid (few different tokens)                640 tokens
noisy         a cycle with single tokens swapped, dropped, added    360 tokens and 4 or 5 copies
              a long one with more noise, or with digits            twice that, or 1,024
counter       a cycle in which numbers count by steady steps        896 tokens and 20 copies
few-tokens    at most four tokens in any order                      352 (768 if most are digits)
              at most five with a separator; at most 16             640; 768
few-phrases   the same few phrases in any order                     768 or 1,024 tokens

Theory. An *exact* cycle of period p is a run of tokens each of which equals the one p positions
before it. Two things have to be found: p, and how long the run is. The detector keeps a map from
every 4-gram (four consecutive tokens, packed into one integer) to the position where it last ended.
When a 4-gram recurs, the distance to its last position is the proposed period. From then on one
comparison per token extends the run or ends it, and with it the proposal.

The nearest equal 4-gram gives the wrong period where a 4-gram occurs several times within one
repetition, as in a paragraph that uses a phrase twice. A second map, of 24-grams, then proposes a
better one. About a quarter of the 24-grams are stored; which ones depends on their content, so that
every copy of a cycle stores the same.

The run starts at the 4-gram that proposed the period, so it can miss repeated tokens before that.
When it covers about a hundred tokens it is examined once: the missed tokens are counted, and the
cycle's contents decide how many tokens it must cover to stop the answer.

Both maps take constant time per token. Memory is bounded: the map of 4-grams has two generations
of 8,192 entries, of which the older is dropped, the map of 24-grams is emptied when it has 8,192,
and tokens beyond the last 16,384 are forgotten.

The other kinds have no exact period. Every 32 tokens or more, the last 2,048 tokens at most are
examined as a whole: `window.py` looks for cycles with noise, `unordered.py` for loops whose tokens
come in no fixed order and for counters. Text that is new ends that search early, so that ordinary
answers cost little.

*The second signal.* A trained model that is caught in a cycle gives its tokens 0.9 and more on
average: the repetition itself is the reason. That alone proves nothing, because it gives as much to
the rows of a table of zeros, or to a line that a pupil writes a hundred times. Those who ask for
such things get rows, though; a model that fails goes on within a sentence, or paragraph by
paragraph. So with the probability that the model gave to each token, an exact cycle of running text
(words, few digits, no row ends in it) stops as soon as it covers `CERTAIN_COVER` tokens, and as
many copies as any exact cycle must. The probability is needed only while the stream repeats
(`wants_probability`).

False alarms are avoided by the number of tokens that a loop must cover, not by the number of
copies: tables, rulers and matrices of zeros repeat often but end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from g4cli.loops.unordered import (
    find_counter,
    find_few_phrases,
    find_few_tokens,
    measure_long_lags,
)
from g4cli.loops.window import WindowLoop, find_noisy_cycle, find_noisy_stretch

LoopKind: TypeAlias = Literal["exact", "noisy", "counter", "few-tokens", "few-phrases"]

MAX_PERIOD: Final = 2048

CERTAIN: Final = 0.9
"""The geometric mean of probabilities from which on a repetition counts as certain."""
CERTAIN_COVER: Final = 160
"""Tokens that a certain cycle must cover to stop an answer."""
_TEXT_SHARE: Final = 0.5  # tokens of running text that hold letters or digits, at least
_DIGIT_SHARE: Final = 0.1  # and digits, at most
_CERTAIN_WINDOW: Final = 64  # tokens at the end of the run, or a period, whose mean is taken
_CERTAIN_STRIDE: Final = 8  # known probabilities from one look at their mean to the next
_MAX_SURPRISE: Final = -log(CERTAIN)
_WATCHED_RUN: Final = 24  # repeated tokens from which on probabilities are wanted

_GRAM: Final = 4  # tokens that must recur before a period is proposed
_LONG_GRAM: Final = 24
_ID_BITS: Final = 20  # Gemma 4 has 2**18 ids
_GRAM_MASK: Final = (1 << _GRAM * _ID_BITS) - 1
_KEPT: Final = 8192  # tokens and n-grams that are remembered at least
_STRIDE_MASK: Final = 31  # the window is examined every 32 tokens
_COUNTER_STRIDE: Final = 64  # for counters
_STRETCH_STRIDE: Final = 256  # for loops in a longer stretch
# Tokens that an exact cycle must cover to stop an answer (see the table above).
_SHORT_PERIOD: Final = 2
_SHORT_COVER: Final = 250
_GRID_COVER: Final = 640
_COVER: Final = 392
# Of the last 128 4-grams, the number that are new in text that is being written for the first time;
# and the tokens that are needed to look for noisy cycles, and for loops in a longer stretch.
_RECENT: Final = 128
_MAX_NEW: Final = 72
_MIN_WINDOW: Final = 256
_MIN_STRETCH: Final = 768
# A row of a grid has a period in this range, and its four most common tokens make up most of it.
_GRID_PERIODS: Final = (12, 128)
_GRID_KINDS: Final = 4
_GRID_SHARE: Final = 0.9


def _required_copies(period: int) -> int:
    """Return how many copies of a cycle there must be: the unit of a long one says enough."""
    return 3 if period >= 64 else 4


# By period: the length of the run at which it is examined for the first time.
_FIRST_EXAMINED: Final = tuple(max(96, _required_copies(p) * p) - p for p in range(MAX_PERIOD + 1))


@dataclass(frozen=True, slots=True)
class Loop:
    """A repetition of `period` tokens that covers `covered` tokens from index `onset` on.

    The first token of the answer has index 0. For 'few-tokens' `period` is the number of different
    tokens, for 'few-phrases' the commonest distance at which a phrase comes back; for 'counter'
    each number counts as one token.
    """

    kind: LoopKind
    period: int
    onset: int
    covered: int


class LoopDetector:
    """Examines the token ids of one answer, one by one. Make a new one for each answer.

    `is_text` returns whether a token holds letters or digits: rows without any may repeat for
    longer. `digits` maps the ids of the vocabulary's digits to their values 0 to 9; without them no
    counter is found, and rows of numbers look like words. `count_line_ends` returns how many line
    ends a token holds; where it is None, probabilities are not used.
    """

    def __init__(
        self,
        is_text: Callable[[int], bool] | None = None,
        digits: Mapping[int, int] = MappingProxyType({}),
        count_line_ends: Callable[[int], int] | None = None,
    ) -> None:
        self._is_text, self._digits = is_text, digits
        self._count_line_ends = count_line_ends
        self._tokens: list[int] = []
        # One per token: the distance to the last occurrence of the 4-gram that it ends, or 0.
        self._lags: list[int] = []
        self._dropped = 0  # tokens that were forgotten at the front of _tokens
        self._gram = _GRAM_MASK  # no token has an id of 20 ones
        self._positions: dict[int, int] = {}
        self._older_positions: dict[int, int] = {}
        self._long_positions: dict[tuple[int, ...], int] = {}
        self._period = 0
        self._run = 0  # tokens that equal the one a period before them
        self._examine_at = 0  # the run at which it is examined
        # Of the tokens of the run whose probabilities are known, up to the last one: -log p.
        self._surprises: list[float] = []
        self._found: Loop | None = None

    @property
    def wants_probability(self) -> bool:
        """Whether the probability of the next token may tell something: the stream repeats."""
        return self._period > 0 and self._run >= _WATCHED_RUN

    def feed(self, token_id: int, probability: float | None = None) -> Loop | None:
        """Return the loop that the stream ends with, or None; a loop once found stays.

        `probability` is the model's own for this token (0 to 1, before any sampler), None if
        unknown.
        """
        if self._found is not None:
            return self._found
        if token_id.__class__ is not int:
            token_id = int(token_id)  # shifts of numpy's integers would overflow
        tokens = self._tokens
        here = len(tokens)
        if self._period:
            if tokens[here - self._period] == token_id:
                self._run += 1
                if probability is not None:
                    self._surprises.append(-log(max(1e-9, probability)))  # 1e-9 also for NaN
                elif self._surprises:
                    self._surprises = []
            else:
                self._period, self._surprises = 0, []
        tokens.append(token_id)
        position = here + self._dropped
        self._gram = gram = (self._gram << _ID_BITS | token_id) & _GRAM_MASK
        positions = self._positions
        # Without an earlier position the lag is larger than any period.
        lag = position - (
            positions[gram] if gram in positions else self._older_positions.get(gram, -_KEPT)
        )
        positions[gram] = position
        if lag > MAX_PERIOD:
            self._lags.append(0)
        else:
            self._lags.append(lag)
            if not self._period:
                self._period, self._run = lag, _GRAM
                self._examine_at = _FIRST_EXAMINED[lag]
            # A hash of the content picks a quarter of the 24-grams, the same in every copy.
            if self._run < _LONG_GRAM and gram % 61 % 4 == 0:
                self._propose_long_lag(position)
            if self._run >= self._examine_at:
                return self._examine_run()
            n_known = len(self._surprises)
            if n_known >= _CERTAIN_WINDOW and not n_known % _CERTAIN_STRIDE:
                found = self._find_certain_cycle()
                if found:
                    return self._report("exact", found)
        if not here & _STRIDE_MASK:
            return self._examine_window()
        return None

    def _propose_long_lag(self, position: int) -> None:
        """Make the distance to the last equal 24-gram the period, if there is one."""
        key = tuple(self._tokens[-_LONG_GRAM:])
        lag = position - self._long_positions.get(key, -_KEPT)
        self._long_positions[key] = position
        if lag <= MAX_PERIOD and position >= _LONG_GRAM:
            self._period, self._run = lag, _LONG_GRAM
            self._examine_at = _FIRST_EXAMINED[lag]

    def _examine_run(self) -> Loop | None:
        """Return the exact cycle if the run covers enough, else set when to look again."""
        tokens, start = self._tokens, len(self._tokens) - self._run
        back = start - self._period
        # Ids below 0 or of more than 20 bits may share a packed 4-gram.
        if back < 0 or tokens[start : start + _GRAM] != tokens[back : back + _GRAM]:
            self._run -= _GRAM
        self._run += self._count_missed()
        if self._run < self._examine_at:
            return None
        covered = self._run + self._period
        need = required_cover(self._period, is_grid=self._is_grid())
        if covered >= need:
            return self._report("exact", WindowLoop(self._period, covered))
        self._examine_at = need - self._period
        return None

    def _find_certain_cycle(self) -> WindowLoop | None:
        """Return the exact cycle if it covers enough for one that the model is certain of."""
        period = self._period
        least = max(CERTAIN_COVER, _required_copies(period) * period)
        if self._run + period < least:
            return None
        recent = self._surprises[-max(_CERTAIN_WINDOW, period) :]
        if sum(recent) > _MAX_SURPRISE * len(recent) or not self._is_running_text():
            return None
        return WindowLoop(period, self._run + self._count_missed() + period)

    def _is_running_text(self) -> bool:
        """Return whether the cycle is words without lists, rows or data among them.

        A single line end makes a row; two and more end a paragraph.
        """
        if self._is_text is None or self._count_line_ends is None:
            return False
        unit = self._tokens[-self._period :]
        n_text, n_digits = sum(map(self._is_text, unit)), sum(map(self._digits.__contains__, unit))
        if n_text < _TEXT_SHARE * len(unit) or n_digits > _DIGIT_SHARE * len(unit):
            return False
        ends = [self._count_line_ends(token) for token in unit]
        # The neighbors of the first token are the last one, and the second.
        return not any(
            ends[i] == 1 and not ends[i - 1] and not ends[(i + 1) % len(ends)]
            for i in range(len(ends))
        )

    def _count_missed(self) -> int:
        """Return how many tokens before the run repeat as well.

        A cycle whose unit repeats itself inside proposes shorter periods first, so its own is found
        late.
        """
        tokens, period = self._tokens, self._period
        end = len(tokens) - self._run - 1
        n, most = 0, min(4 * self._run, end - period + 1)  # 4: a choice, to bound the work
        while n < most and tokens[end - n] == tokens[end - n - period]:
            n += 1
        return n

    def _is_grid(self) -> bool:
        """Return whether the cycle has few different tokens, or no text, as the row of a grid."""
        period, counts = self._period, Counter(self._tokens[-self._period :])
        if self._is_text is not None and not any(map(self._is_text, counts)):
            return True
        n_commonest = sum(count for _, count in counts.most_common(_GRID_KINDS))
        return _GRID_KINDS * len(counts) <= period and n_commonest >= _GRID_SHARE * period

    def _examine_window(self) -> Loop | None:
        """Return a loop of the kinds without an exact period, or None."""
        self._forget_old()
        tokens, lags, digits = self._tokens, self._lags, self._digits
        fed = self._dropped + len(tokens)  # 1, 33, 65 ...: see feed
        found = find_few_tokens(tokens, lags, digits)
        if found:
            return self._report("few-tokens", found)
        if fed % _COUNTER_STRIDE == 1:
            found = find_counter(tokens, digits)
            if found:
                return self._report("counter", found)
        # Text that is being written for the first time ends the search here.
        if lags[-_RECENT:].count(0) > _MAX_NEW or len(tokens) < _MIN_WINDOW:
            return None
        found = find_noisy_cycle(tokens, lags, digits)
        if found:
            return self._report("noisy", found)
        return self._examine_stretch() if fed % _STRETCH_STRIDE == 1 else None

    def _examine_stretch(self) -> Loop | None:
        """Return a loop that shows only in a longer stretch of tokens, or None."""
        tokens, lags = self._tokens, self._lags
        long_lags = measure_long_lags(tokens, lags) if len(tokens) >= _MIN_STRETCH else []
        if not long_lags:
            return None
        found = find_few_phrases(tokens, long_lags, self._digits)
        if found:
            return self._report("few-phrases", found)
        found = find_noisy_stretch(tokens, long_lags, self._digits) or find_noisy_stretch(
            tokens, lags, self._digits
        )
        return self._report("noisy", found) if found else None

    def _report(self, kind: LoopKind, found: WindowLoop) -> Loop:
        """Remember a loop, and return it with its place in the answer."""
        onset = self._dropped + len(self._tokens) - found.covered
        self._found = Loop(kind, found.period, onset, found.covered)
        return self._found

    def _forget_old(self) -> None:
        """Bound the memory: drop the older half of whatever is full."""
        if len(self._positions) >= _KEPT:
            self._older_positions, self._positions = self._positions, {}
        if len(self._long_positions) >= _KEPT:
            self._long_positions = {}
        if len(self._tokens) >= 2 * _KEPT:
            del self._tokens[:_KEPT], self._lags[:_KEPT]
            self._dropped += _KEPT


def required_cover(period: int, *, is_grid: bool = False) -> int:
    """Return the number of tokens that an exact cycle must cover to end the answer.

    `period` is in tokens. One or two tokens for ever is what a broken file generates, so these stop
    first. `is_grid` says that the unit has few different tokens, as a row of a matrix of zeros or
    of a blank table, which users ask for.
    """
    if period <= _SHORT_PERIOD:
        return _SHORT_COVER
    is_row = is_grid and _GRID_PERIODS[0] <= period <= _GRID_PERIODS[1]
    return max(_GRID_COVER if is_row else _COVER, _required_copies(period) * period)
