"""Finds loops without a fixed cycle at the end of a stream of token ids; pure functions.

Theory. A model that fails can repeat without repeating in order. Three such loops are known from
real answers, and each has a test of its own:

* *Few tokens*: a handful of tokens in any order. The window holds at most 4, 5 or 16 different ones.
  Grids, such as a matrix of zeros, hold few tokens too, but there only some tokens follow each other;
  in a loop nearly all pairs occur.
* *Few phrases*: phrases that were all said before, in a new order. Nearly every 8-gram of 768 or
  1,024 tokens occurred within the 384 tokens before it.
* *Counter*: a cycle that is exact once every number is replaced by one placeholder, and whose
  numbers grow by a constant step ("Step 17: repeat"). A list that somebody asked for looks the same,
  and is shorter.

Digits need longer windows everywhere: an array of bytes is made of few tokens as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from g4cli.loops.window import WindowLoop, share_of_digits

# Different tokens at most, tokens that they must cover, share of digits at most: digits alone are
# data.
_FEW: Final = ((4, 352, 0.8), (5, 640, 0.3), (4, 768, 1.0), (16, 768, 0.2))
_FOLLOW: Final = (
    0.75  # of all pairs of tokens that occur in babble of at most four tokens, which needs least
)
_ALL_SORTS: Final = 0.50  # lags that may be equal in babble of five
_LONG_COVER: Final = 768
# Tokens to cover, and how many runs of eight in them may be new.
_STALE: Final = ((768, 10), (1024, 25))
_STALE_GRAM: Final = 8
_STALE_FIGURES: Final = 0.35  # digits at most: an array of bytes says nothing new either
_STALE_LAG: Final = 384  # a run counts as new if it has not stood within so many tokens
STRETCH_NEW: Final = 300  # of 768 runs of four may be new where a longer look is worth while

COUNTER_COVER: Final = 896
BARE_COVER: Final = 2048  # of numbers with nothing between them but a separator
COUNTER_COPIES: Final = 20
_COUNTER_NUMBERS: Final = 3  # that may go by steps of their own in a copy
_STEADY: Final = 0.94  # of the steps that must be equal: seconds begin again after 59
_GLANCE: Final = 160  # tokens that are looked at first


def find_few_tokens(
    tokens: Sequence[int], lags: Sequence[int], digits: Mapping[int, int]
) -> WindowLoop | None:
    """Return the babble of a few different tokens that the stream ends with; its period is their number."""
    recent = len(set(tokens[-64:]))
    for most, cover, figures in _FEW:
        if recent > most or len(tokens) < cover:
            continue
        window = tokens[-cover:]
        kinds = len(set(window))
        if kinds > most or share_of_digits(digits, window) > figures:
            continue
        # In a grid (zeros and commas, bars and blanks) only some tokens follow each other; in
        # babble all do.
        if cover >= _LONG_COVER or (
            kinds <= 4 and len(set(pairwise(window))) >= _FOLLOW * kinds * kinds
        ):
            return WindowLoop(kinds, cover)
        if (
            kinds > 2
            and most > 4
            and Counter(lags[-cover:]).most_common(1)[0][1] < _ALL_SORTS * cover
        ):
            return WindowLoop(kinds, cover)
    return None


def measure_long_lags(tokens: Sequence[int], lags: Sequence[int]) -> list[int]:
    """Return how far back the last runs of eight stood before; nothing where much of the text is new."""
    if lags[-_LONG_COVER:].count(0) > STRETCH_NEW:
        return []
    window = tokens[-_STALE[-1][0] - _STALE_LAG :]
    places: dict[tuple[int, ...], int] = {}
    found = [0] * (_STALE_GRAM - 1)
    for place, gram in enumerate(zip(*(window[k:] for k in range(_STALE_GRAM)), strict=False)):
        lag = place - places.get(gram, place)
        found.append(lag if lag <= _STALE_LAG else 0)
        places[gram] = place
    return found


def find_few_phrases(
    tokens: Sequence[int], far: Sequence[int], digits: Mapping[int, int]
) -> WindowLoop | None:
    """Return the stretch without a new turn of phrase; its period is the commonest distance at which one
    comes back. `far` are the lags of `measure_long_lags`."""
    for cover, most in _STALE:
        if len(far) < cover or far[-cover:].count(0) > most:
            continue
        if share_of_digits(digits, tokens[-cover:]) <= _STALE_FIGURES:
            counts = Counter(lag for lag in far[-cover:] if lag)
            return WindowLoop(counts.most_common(1)[0][0], cover)
    return None


def find_counter(tokens: Sequence[int], digits: Mapping[int, int]) -> WindowLoop | None:
    """Return the cycle in which nothing changes but numbers that go up or down by steady steps.

    "Step 17: repeat". A list that somebody asked for looks the same and is shorter.
    """
    if len(tokens) < COUNTER_COVER or not any(token in digits for token in tokens[-48:]):
        return None
    glance, _ = _mask_numbers(tokens[-_GLANCE:], digits)
    if not _find_period(glance, len(glance) // 2 + 1):
        return None
    for cover in (COUNTER_COVER, BARE_COVER):
        if len(tokens) < cover:
            return None
        shape, numbers = _mask_numbers(tokens[-cover:], digits)
        period = _find_period(shape, len(shape) // COUNTER_COPIES)
        if not period or not _is_counting(numbers[1:-1], shape[:period].count(_NUMBER)):
            return None
        if period > 3 or cover == BARE_COVER:
            return WindowLoop(period, cover)
    return None


_NUMBER: Final = -1


def _mask_numbers(tokens: Sequence[int], digits: Mapping[int, int]) -> tuple[list[int], list[int]]:
    """Return the tokens with every number as one -1, but the first and the last, and the numbers."""
    shape: list[int] = []
    numbers: list[int] = []
    inside = False
    for token in tokens:
        value = digits.get(token)
        if value is None:
            shape.append(token)
            inside = False
        elif inside:
            numbers[-1] = numbers[-1] * 10 + value
        else:
            shape.append(_NUMBER)
            numbers.append(value)
            inside = True
    return shape[1:-1], numbers  # the window may begin and end inside a number


def _find_period(shape: Sequence[int], longest: int) -> int:
    """Return the shortest period of a sequence up to `longest`, or 0."""
    for period in range(2, min(longest, len(shape) - 1) + 1):
        if shape[period] == shape[0] and shape[period:] == shape[:-period]:
            return period
    return 0


def _is_counting(numbers: Sequence[int], per_copy: int) -> bool:
    """Return whether numbers count: all of them in turn, or each of a copy by itself."""
    if per_copy and _find_step(numbers):
        return True
    if not 1 <= per_copy <= _COUNTER_NUMBERS:
        return False
    steps = [_find_step(numbers[i::per_copy]) for i in range(per_copy)]
    return None not in steps and any(steps)


def _find_step(numbers: Sequence[int]) -> int | None:
    """Return the step by which nearly all of the numbers go on (0: they stay), or None."""
    steps = [b - a for a, b in pairwise(numbers)]
    if len(steps) < 3:
        return None
    step, count = Counter(steps).most_common(1)[0]
    return step if count >= _STEADY * len(steps) else None
