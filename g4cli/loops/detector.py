"""Detects that a stream of token ids repeats itself. Needs no text, no model and no clock.

`LoopDetector.feed` takes one id and returns None while there is nothing to report, or a `Loop`. Its
stage is 'suspect' once per cycle, when the cycle covers about a hundred tokens, and 'stop' from the
moment that it covers more than anybody would ask for:

kind          what repeats                                          stops after
exact         one or two tokens                                     250 tokens
              a longer cycle, up to 2,048 tokens                    392 tokens and 3 or 4 copies
              a row of a grid (few different tokens)                640 tokens
noisy         a cycle with single tokens swapped, dropped, added    360 tokens and 4 or 5 copies
              a long one with more noise, or with digits            twice that, or 1,024
counter       a cycle in which numbers count by steady steps        896 tokens and 20 copies
few-tokens    at most four tokens in any order                      352 tokens (768 if nearly all are digits)
              at most five with a separator; at most 16             640; 768
few-phrases   the same few phrases in any order                     768 or 1,024 tokens

Theory. An *exact* cycle of period p is a run of tokens each of which equals the one p places before
it. Two things have to be found: p, and how long the run is. The detector keeps a map from every
4-gram (four consecutive tokens, packed into one integer) to the place where it last ended. When a
4-gram recurs, the distance to its last place is the proposed period. From then on one comparison
per token extends the run or ends it, and with it the proposal.

The nearest equal 4-gram gives the wrong period where a 4-gram occurs several times within one
repetition, as in a paragraph that uses a phrase twice. A second map, of 24-grams, then proposes a
better one. About a quarter of the 24-grams are stored; which ones depends on their content, so that
every copy of a cycle stores the same.

Both steps take constant time per token. Memory is bounded: the map of 4-grams has two generations
of 8,192 entries, of which the older is dropped, the map of 24-grams is emptied when it has 8,192,
and tokens beyond the last 16,384 are forgotten.

The other kinds have no exact period. Every 32 tokens or more, the last 2,048 tokens at most are
examined as a whole: `window.py` looks for cycles with noise, `babble.py` for loops without a cycle.
Text that is new ends that search early, so that ordinary answers cost little.

False alarms are kept away by the number of tokens that a loop must cover, not by the number of
copies: tables, rulers and matrices of zeros repeat often but end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from g4cli.loops.babble import find_counter, find_few_phrases, find_few_tokens, measure_long_lags
from g4cli.loops.window import WindowLoop, find_noisy_cycle, find_noisy_stretch

LoopKind: TypeAlias = Literal["exact", "noisy", "counter", "few-tokens", "few-phrases"]

MAX_PERIOD: Final = 2048
# Ids of "0" to "9" in Gemma 4's vocabulary, which has no token of several digits (but Bengali and
# Hindi).
GEMMA4_DIGITS: Final[Mapping[int, int]] = MappingProxyType(
    {
        token: value
        for value, token in enumerate(
            (236771, 236770, 236778, 236800, 236812, 236810, 236825, 236832, 236828, 236819)
        )
    }
)

_GRAM: Final = 4  # tokens that must recur before a period is proposed
_LONG_GRAM: Final = 24
_ID_BITS: Final = 20  # Gemma 4 has 2**18 ids
_GRAM_MASK: Final = (1 << _GRAM * _ID_BITS) - 1
_KEPT: Final = 8192  # tokens, and places of runs, that are remembered at least
_STRIDE_MASK: Final = 31  # windows are looked at every 32 tokens
_COUNTER_STRIDE: Final = 64
_STRETCH_STRIDE: Final = 256
# A row of a grid: so long, and four kinds of tokens, on average four times each, make up most of
# it.
_GRID_PERIODS: Final = (12, 128)
_GRID_KINDS: Final = 4
_GRID_SHARE: Final = 0.9
# By period: the run at which a cycle becomes suspect.
_FIRST_ALARM: Final = tuple(max(96, (3 if p >= 64 else 4) * p) - p for p in range(MAX_PERIOD + 1))


@dataclass(frozen=True, slots=True)
class Loop:
    """A repetition: `covered` tokens from number `onset` on (counted from 0) repeat every `period` tokens.

    Of 'few-tokens' `period` is the number of different tokens, of 'few-phrases' the commonest
    distance at which something comes back; of 'counter' each number counts as one token.
    """

    kind: LoopKind
    period: int
    onset: int
    covered: int
    stage: Literal["suspect", "stop"]


class LoopDetector:
    """Takes the ids of one answer, one by one. Make a new one for each answer.

    `is_text` tells whether a token holds letters or digits: rows without any may go on for longer.
    `digits` gives the values of the vocabulary's digits, for loops that count.
    """

    def __init__(
        self,
        is_text: Callable[[int], bool] | None = None,
        digits: Mapping[int, int] = GEMMA4_DIGITS,
    ) -> None:
        self._is_text, self._digits = is_text, digits
        self._tokens: list[int] = []
        self._lags: list[
            int
        ] = []  # one per token: how far back the run of four that it ends stood before
        self._dropped = 0  # tokens that were forgotten at the front of _tokens
        self._gram = _GRAM_MASK  # no token has an id of 20 ones
        self._places: dict[int, int] = {}
        self._older_places: dict[int, int] = {}
        self._long_places: dict[tuple[int, ...], int] = {}
        self._period = 0
        self._run = 0  # tokens that equal the one a period before them
        self._alarm = 0  # the run at which there is something to say
        self._stopped: Loop | None = None

    def feed(self, token_id: int) -> Loop | None:
        """Return a Loop when `token_id` completes one, else None. After a 'stop' it is returned for ever."""
        if self._stopped is not None:
            return self._stopped
        if token_id.__class__ is not int:
            token_id = int(token_id)  # numpy's integers would overflow below
        tokens = self._tokens
        here = len(tokens)
        if self._period:
            if tokens[here - self._period] == token_id:
                self._run += 1
            else:
                self._period = 0
        tokens.append(token_id)
        place = here + self._dropped
        self._gram = gram = (self._gram << _ID_BITS | token_id) & _GRAM_MASK
        places = self._places
        lag = place - (places[gram] if gram in places else self._older_places.get(gram, -_KEPT))
        places[gram] = place
        if lag > MAX_PERIOD:
            self._lags.append(0)
        else:
            self._lags.append(lag)
            if not self._period:
                self._period, self._run, self._alarm = lag, _GRAM, _FIRST_ALARM[lag]
            if self._run < _LONG_GRAM and gram % 61 % 4 == 0:  # by content: see above
                self._compare_long(place)
            if self._run >= self._alarm:
                return self._report_exact()
        if not here & _STRIDE_MASK:
            return self._look_back()
        return None

    def _compare_long(self, place: int) -> None:
        """Propose the distance of the last equal run of 24 unless the present period explains them all."""
        key = tuple(self._tokens[-_LONG_GRAM:])
        lag = place - self._long_places.get(key, -_KEPT)
        self._long_places[key] = place
        if lag <= MAX_PERIOD and place >= _LONG_GRAM:
            self._period, self._run, self._alarm = lag, _LONG_GRAM, _FIRST_ALARM[lag]

    def _report_exact(self) -> Loop | None:
        tokens, start = self._tokens, len(self._tokens) - self._run
        back = start - self._period
        # Ids below 0 or of more than 20 bits may share a key.
        if back < 0 or tokens[start : start + _GRAM] != tokens[back : back + _GRAM]:
            self._run -= _GRAM
        self._run += self._count_missed()
        if self._run < self._alarm:
            return None
        covered = self._run + self._period
        need = self._stop_cover()
        if covered >= need:
            return self._report_stop("exact", WindowLoop(self._period, covered))
        self._alarm = need - self._period
        onset = self._dropped + len(self._tokens) - covered
        return Loop("exact", self._period, onset, covered, "suspect")

    def _count_missed(self) -> int:
        """Return how many tokens before the run repeat too: where a unit repeats itself it is seen late."""
        tokens, period = self._tokens, self._period
        end = len(tokens) - self._run - 1
        n, most = 0, min(4 * self._run, end - period + 1)
        while n < most and tokens[end - n] == tokens[end - n - period]:
            n += 1
        return n

    def _stop_cover(self) -> int:
        period, kinds = self._period, Counter(self._tokens[-self._period :])
        commonest = sum(count for _, count in kinds.most_common(_GRID_KINDS))
        is_grid = _GRID_KINDS * len(kinds) <= period and commonest >= _GRID_SHARE * period
        if self._is_text is not None and not any(map(self._is_text, kinds)):
            is_grid = True
        return stop_cover(period, is_grid=is_grid)

    def _look_back(self) -> Loop | None:
        self._forget_old()
        tokens, lags, digits = self._tokens, self._lags, self._digits
        fed = self._dropped + len(tokens)
        found = find_few_tokens(tokens, lags, digits)
        if found:
            return self._report_stop("few-tokens", found)
        if fed % _COUNTER_STRIDE == 1:
            found = find_counter(tokens, digits)
            if found:
                return self._report_stop("counter", found)
        # Text that is being written for the first time ends the search here.
        if lags[-128:].count(0) > 72 or len(tokens) < 256:
            return None
        found = find_noisy_cycle(tokens, lags, digits)
        if found:
            return self._report_stop("noisy", found)
        return self._look_far_back() if fed % _STRETCH_STRIDE == 1 else None

    def _look_far_back(self) -> Loop | None:
        tokens, lags = self._tokens, self._lags
        far = measure_long_lags(tokens, lags) if len(tokens) >= 768 else []
        if not far:
            return None
        found = find_few_phrases(tokens, far, self._digits)
        if found:
            return self._report_stop("few-phrases", found)
        found = find_noisy_stretch(tokens, far, self._digits) or find_noisy_stretch(
            tokens, lags, self._digits
        )
        return self._report_stop("noisy", found) if found else None

    def _report_stop(self, kind: LoopKind, found: WindowLoop) -> Loop:
        onset = self._dropped + len(self._tokens) - found.covered
        self._stopped = Loop(kind, found.period, onset, found.covered, "stop")
        return self._stopped

    def _forget_old(self) -> None:
        if len(self._places) >= _KEPT:
            self._older_places, self._places = self._places, {}
        if len(self._long_places) >= _KEPT:
            self._long_places = {}
        if len(self._tokens) >= 2 * _KEPT:
            del self._tokens[:_KEPT], self._lags[:_KEPT]
            self._dropped += _KEPT


def stop_cover(period: int, *, is_grid: bool = False) -> int:
    """Return the tokens that an exact cycle must cover to end the answer.

    Cover, not the number of copies, keeps false alarms away: tables, rules and zero matrices repeat
    often but end. One or two tokens for ever is what a broken file prints, so these stop first; a
    long unit of few kinds of tokens is a row of a grid (a zero matrix, a blank table), which people
    ask for.
    """
    if period <= 2:
        return 250
    is_row = is_grid and _GRID_PERIODS[0] <= period <= _GRID_PERIODS[1]
    return max(640 if is_row else 392, (3 if period >= 64 else 4) * period)
