"""Finds loops that do not repeat token for token at the end of a stream; pure functions.

Theory. A model that fails can repeat without repeating in order. Three such loops are known from
real answers, and each has a test of its own:

* *Few tokens*: a handful of tokens in any order. The window holds at most 4, 5 or 16 different
  ones. Grids, such as a matrix of zeros, hold few tokens too, but there only some tokens follow
  each other; in a loop nearly all pairs occur.
* *Few phrases*: phrases that were all generated before, in a new order. Nearly every 8-gram of 768
  or 1,024 tokens occurred within the 384 tokens before it.
* *Counter*: a cycle that is exact once every number is replaced by one placeholder, and whose
  numbers grow or shrink by a constant step ("Step 17: repeat"). A list that somebody asked for
  looks the same, and is shorter.

Digits need longer windows everywhere: an array of bytes is made of few tokens as well.

A *lag* is the distance in tokens from an n-gram to its last occurrence, 0 if there was none nearby.
`digits` maps the token ids of digits to their values. The thresholds are tuned on one half of a
benchmark of answers and checked on the other (tests/bench/bench_loops.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from g4cli.loops.window import WindowLoop, share_of_digits


class _FewTokensRule(NamedTuple):
    """At most `max_kinds` different tokens, of which a share of `max_digits` may be digits.

    They are a loop if they cover `cover` tokens. Digits alone are data.
    """

    max_kinds: int
    cover: int
    max_digits: float


class _FewPhrasesRule(NamedTuple):
    """A loop of `cover` tokens, of whose 8-grams `max_new` may be new."""

    cover: int
    max_new: int


_FEW_TOKENS_RULES: Final = (
    _FewTokensRule(4, 352, 0.8),
    _FewTokensRule(5, 640, 0.3),
    _FewTokensRule(4, 768, 1.0),
    _FewTokensRule(16, 768, 0.2),
)
_RECENT: Final = 64  # tokens that are counted first, to give up early
_MIN_PAIR_SHARE: Final = 0.75  # of all ordered pairs of the tokens, in a loop of at most four
_MAX_EQUAL_LAGS: Final = 0.50  # share of the lags, in a loop of five: more are rows of a grid
_LONG_COVER: Final = 768  # longer than any grid that somebody asked for
_FEW_PHRASES_RULES: Final = (_FewPhrasesRule(768, 10), _FewPhrasesRule(1024, 25))
_PHRASE_GRAM: Final = 8
_PHRASE_DIGITS: Final = 0.35  # highest share of digits: an array of bytes has no new 8-grams either
_PHRASE_LAG: Final = 384  # an 8-gram is new if it has not occurred within so many tokens
_MAX_NEW_GRAMS: Final = 300  # of 768 4-grams; text with more of them is not such a loop

_COUNTER_COVER: Final = 896
_BARE_COVER: Final = 2048  # for numbers with nothing but a separator between them
_COUNTER_COPIES: Final = 20
_COUNTER_NUMBERS: Final = 3  # numbers in one copy that may have steps of their own, at most
_MIN_EQUAL_STEPS: Final = 0.94  # share of the steps; not all: seconds begin again after 59
_FIRST_LOOK: Final = 160  # tokens that are examined first, to give up early
_LAST_TOKENS: Final = 48  # of which one must be a digit
_NUMBER: Final = -1  # replaces a number


def find_few_tokens(
    tokens: Sequence[int], lags: Sequence[int], digits: Mapping[int, int]
) -> WindowLoop | None:
    """Return the loop of a few tokens in any order that the stream ends with, or None.

    Its period is the number of different tokens. `lags` are those of 4-grams, one per token.
    """
    n_recent_kinds = len(set(tokens[-_RECENT:]))
    for max_kinds, cover, max_digits in _FEW_TOKENS_RULES:
        if n_recent_kinds > max_kinds or len(tokens) < cover:
            continue
        window = tokens[-cover:]
        n_kinds = len(set(window))
        if n_kinds > max_kinds or share_of_digits(digits, window) > max_digits:
            continue
        # In a grid (zeros and commas, bars and blanks) only some tokens follow each other.
        if cover >= _LONG_COVER or (
            n_kinds <= 4 and len(set(pairwise(window))) >= _MIN_PAIR_SHARE * n_kinds * n_kinds
        ):
            return WindowLoop(n_kinds, cover)
        if n_kinds > 2 and max_kinds > 4:
            [(_, n_equal_lags)] = Counter(lags[-cover:]).most_common(1)
            if n_equal_lags < _MAX_EQUAL_LAGS * cover:
                return WindowLoop(n_kinds, cover)
    return None


def measure_long_lags(tokens: Sequence[int], lags: Sequence[int]) -> list[int]:
    """Return the lags of the last 8-grams, one per token; an empty list if much of the text is new.

    `lags` are those of 4-grams, which are cheap: the detector has them.
    """
    if lags[-_LONG_COVER:].count(0) > _MAX_NEW_GRAMS:
        return []
    window = tokens[-_FEW_PHRASES_RULES[-1].cover - _PHRASE_LAG :]
    positions: dict[tuple[int, ...], int] = {}
    long_lags = [0] * (_PHRASE_GRAM - 1)
    for i, gram in enumerate(zip(*(window[k:] for k in range(_PHRASE_GRAM)), strict=False)):
        lag = i - positions.get(gram, i)
        long_lags.append(lag if lag <= _PHRASE_LAG else 0)
        positions[gram] = i
    return long_lags


def find_few_phrases(
    tokens: Sequence[int], long_lags: Sequence[int], digits: Mapping[int, int]
) -> WindowLoop | None:
    """Return the loop of phrases in any order that the stream ends with, or None.

    Its period is the commonest distance at which a phrase comes back. `long_lags` come from
    `measure_long_lags`.
    """
    for cover, max_new in _FEW_PHRASES_RULES:
        if len(long_lags) < cover or long_lags[-cover:].count(0) > max_new:
            continue
        if share_of_digits(digits, tokens[-cover:]) <= _PHRASE_DIGITS:
            counts = Counter(lag for lag in long_lags[-cover:] if lag)
            return WindowLoop(counts.most_common(1)[0][0], cover)
    return None


def find_counter(tokens: Sequence[int], digits: Mapping[int, int]) -> WindowLoop | None:
    """Return the cycle in which only numbers change, by constant steps, or None."""
    if len(tokens) < _COUNTER_COVER or not any(token in digits for token in tokens[-_LAST_TOKENS:]):
        return None
    masked, _ = _mask_numbers(tokens[-_FIRST_LOOK:], digits)
    if not _find_period(masked, len(masked) // 2 + 1):
        return None
    for cover in (_COUNTER_COVER, _BARE_COVER):
        if len(tokens) < cover:
            return None
        masked, numbers = _mask_numbers(tokens[-cover:], digits)
        period = _find_period(masked, len(masked) // _COUNTER_COPIES)
        if not period or not _is_counting(numbers[1:-1], masked[:period].count(_NUMBER)):
            return None
        if period > 3 or cover == _BARE_COVER:  # up to 3: a number and a separator
            return WindowLoop(period, cover)
    return None


def measure_count(tokens: Sequence[int], period: int, digits: Mapping[int, int]) -> int:
    """Return how many of `tokens`, which begin in a counter, are its first `period` tokens.

    All digits of a number count as one of these.
    """
    n_found, inside = 0, False
    for index, token in enumerate(tokens):
        is_digit = token in digits
        if not (is_digit and inside):
            if n_found == period:
                return index
            n_found += 1
        inside = is_digit
    return len(tokens)


def _mask_numbers(tokens: Sequence[int], digits: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Return the tokens with every number replaced by one -1, and the values of the numbers.

    The first and the last token are left out, since the window may begin and end inside a number;
    a caller leaves out the first and the last value for the same reason.
    """
    masked: list[int] = []
    numbers: list[int] = []
    inside = False
    for token in tokens:
        value = digits.get(token)
        if value is None:
            masked.append(token)
            inside = False
        elif inside:
            numbers[-1] = numbers[-1] * 10 + value
        else:
            masked.append(_NUMBER)
            numbers.append(value)
            inside = True
    return masked[1:-1], numbers


def _find_period(tokens: Sequence[int], longest: int) -> int:
    """Return the shortest period of a sequence from 2 to `longest` tokens, or 0."""
    for period in range(2, min(longest, len(tokens) - 1) + 1):
        if tokens[period] == tokens[0] and tokens[period:] == tokens[:-period]:
            return period
    return 0


def _is_counting(numbers: Sequence[int], per_copy: int) -> bool:
    """Return whether numbers count: all of them in turn, or each number of a copy by itself."""
    if per_copy and _find_step(numbers):
        return True
    if not 1 <= per_copy <= _COUNTER_NUMBERS:
        return False
    steps = [_find_step(numbers[i::per_copy]) for i in range(per_copy)]
    return None not in steps and any(steps)


def _find_step(numbers: Sequence[int]) -> int | None:
    """Return the difference between nearly all neighbors (0: they are equal), or None."""
    steps = [b - a for a, b in pairwise(numbers)]
    if len(steps) < 3:
        return None
    step, count = Counter(steps).most_common(1)[0]
    return step if count >= _MIN_EQUAL_STEPS * len(steps) else None
