"""Loops that are not exact, found by looking back over a window of the stream; pure functions.

A *lag* is how far back the last four tokens stood before (0: nowhere near). In a loop of period p the lags
are p, or a multiple of it, but for the few runs of four that a stray token has made new.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

NOISY_COVER: Final = 360
FEW_TOKENS, FEW_COVER = 4, 384
COUNTER_COVER, COUNTER_COPIES = 896, 20

# Shares of the window, and counts; tuned on one half of the benchmark, checked on the other.
_RECENT: Final = 128  # lags that are looked at first
_RECENT_NEW: Final = 40  # of them may be 0
_COMMONEST: Final = 50  # of them must be equal
_NEAR: Final = 0.40  # lags that are a multiple of the period
_FAR: Final = 0.11  # lags beyond the period that are no multiple
_STRAY: Final = 0.20  # lags that are far or 0
_SAME_PLACE: Final = (0.40, 0.35)  # new runs with another one a period before: short, long periods
_DISTINCT: Final = 0.85  # of the places where strays would fall by chance
_LONG_PERIOD: Final = 32


@dataclass(frozen=True, slots=True)
class WindowLoop:
    """A loop that fills the last `covered` tokens."""

    period: int
    covered: int


def few_tokens(tokens: Sequence[int]) -> WindowLoop | None:
    """Return the babble of at most four different tokens that the stream ends with."""
    kinds = len(set(tokens[-64:]))
    if kinds > FEW_TOKENS or len(tokens) < FEW_COVER:
        return None
    window = tokens[-FEW_COVER:]
    # In a grid (zeros and commas, bars and blanks) only some tokens follow each other; in babble all do.
    pairs = len(set(pairwise(window)))
    if len(set(window)) > FEW_TOKENS or pairs < 0.75 * kinds * kinds:
        return None
    return WindowLoop(kinds, FEW_COVER)


def noisy_cycle(tokens: Sequence[int], lags: Sequence[int], digits: Mapping[int, int]) -> WindowLoop | None:
    """Return the cycle with single tokens swapped, dropped or added that the stream ends with.

    Records of one layout (a list of JSON objects, the cases of a macro) look similar: what is new in them
    always comes at the same places of the layout, while noise falls anywhere. Two tests tell them apart.
    """
    recent = lags[-_RECENT:]
    if recent.count(0) > _RECENT_NEW:
        return None
    counts = Counter(lag for lag in recent if lag)
    period, count = counts.most_common(1)[0]
    if count < _COMMONEST:
        return None
    width = max(NOISY_COVER - period, (3 if period < _LONG_PERIOD else 4) * period)
    if len(lags) < width + period:
        return None
    window = lags[-width:]
    kinds = [_kind(lag, period) for lag in window]
    new, near, far = window.count(0), kinds.count("near"), kinds.count("stray") - window.count(0)
    if "stray" not in kinds[width // 4 :]:
        return None  # an exact cycle, which has its own rule
    if near < _NEAR * width or far > _FAR * width or new + far > _STRAY * width:
        return None
    starts = [i for i in range(1, width) if kinds[i] == "stray" != kinds[i - 1]]
    if period > 2 and starts and _is_records(tokens, starts, width, period, digits):
        return None
    return WindowLoop(period, width + period)


def _kind(lag: int, period: int) -> Literal["near", "inner", "stray"]:
    """Return whether a lag is 1 to 3 periods (nearly), within the unit, or neither."""
    copies = (lag + period // 2) // period
    if 1 <= copies <= 3 and abs(lag - copies * period) <= min(4, period // 4):
        return "near"
    return "inner" if 0 < lag <= period else "stray"


def _is_records(
    tokens: Sequence[int], starts: list[int], width: int, period: int, digits: Mapping[int, int]
) -> bool:
    """Return whether what strays are numbers, or come at the same places of each copy."""
    offset, n = len(tokens) - width, len(starts)
    if period >= _LONG_PERIOD and 2 * sum(tokens[offset + i] in digits for i in starts) >= n:
        return True
    if n < 3:
        return False
    slack, known = min(2, period // 4), set(starts)
    late = [i for i in starts if i >= period]
    again = sum(any(i - period + d in known for d in range(-slack, slack + 1)) for i in late)
    if late and again >= _SAME_PLACE[period >= _LONG_PERIOD] * len(late):
        return True
    if period < _LONG_PERIOD:
        return False
    before = {tuple(tokens[offset + i - 3 : offset + i]) for i in starts}
    # n strays that fall anywhere meet period * (1 - (1 - 1/period)**n) different places on average.
    return len(before) < _DISTINCT * period * (1 - (1 - 1 / period) ** n)


def counter(tokens: Sequence[int], digits: Mapping[int, int]) -> WindowLoop | None:
    """Return the cycle in which nothing changes but a number that goes up or down by the same step.

    "Step 17: repeat". A list that somebody asked for looks the same and is shorter.
    """
    shape: list[int] = []
    numbers: list[int] = []
    inside = False
    for token in tokens[-COUNTER_COVER:]:
        value = digits.get(token)
        if value is None:
            shape.append(token)
            inside = False
        elif inside:
            numbers[-1] = numbers[-1] * 10 + value
        else:
            shape.append(-1)
            numbers.append(value)
            inside = True
    shape = shape[1:-1]  # the window may begin and end inside a number
    for period in range(4, len(shape) // COUNTER_COPIES + 1):
        if shape[period] == shape[0] and shape[period:] == shape[:-period]:
            n_numbers = shape[:period].count(-1)
            counted = any(_goes_by_steps(numbers[1 + i : -1 : n_numbers]) for i in range(n_numbers))
            return WindowLoop(period, COUNTER_COVER) if 1 <= n_numbers <= 2 and counted else None
    return None


def _goes_by_steps(numbers: Sequence[int]) -> bool:
    if len(numbers) < 3:
        return False
    step = numbers[1] - numbers[0]
    return step != 0 and all(b - a == step for a, b in pairwise(numbers))
