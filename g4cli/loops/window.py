"""Finds cycles with noise at the end of a stream of token ids, within a window; pure functions.

Theory. A *lag* is how many tokens ago the n-gram that ends at a token ended before, 0 if it did not
occur nearby; n is four, or eight in the longer look. In a loop of period p nearly all lags equal p
or a small multiple of it. A token that was swapped, dropped or added makes the next n lags 0 or
odd: a *stray*. So a noisy cycle shows as one dominant lag, with strays between.

Lists of records with one layout look alike: JSON objects, rows of a table, the cases of a macro.
Most of their tokens repeat as well, and the rest is new in each record. The difference is where the
new tokens are. In records they come at the same places of each repetition, or at even distances;
noise falls anywhere. Three numbers tell: the share of strays that have another stray one period
earlier, how many different 3-grams precede the strays compared with what chance would give, and
whether the distances between strays are equal.

The thresholds are tuned on one half of a benchmark of answers and checked on the other
(tests/bench/bench_loops.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, NamedTuple

_COVER: Final = 360  # tokens of the first look
_STRETCH: Final = 1024  # tokens of the second, longer look, or all where there are fewer

# The first look: counts of lags, and shares of the window.
_RECENT: Final = 128  # lags that are examined first
_RECENT_NEW: Final = 40  # of them may be 0
_MIN_COMMONEST: Final = 40  # of them must be equal, give or take one
_MIN_NEAR: Final = 0.33  # lags that are a multiple of the period
_MAX_FAR: Final = 0.11  # lags beyond the period that are no multiple
_MAX_STRAY: Final = 0.20  # lags that are far or 0
_LONG_PERIOD: Final = 32  # tokens from which on a period is long
_COPIES: Final = (3, 4)  # copies that a cycle needs at least, for short and for long periods
_MANY_STRAYS: Final = 0.035  # beginnings of strays for which a long period needs twice the window
# Pairs are for short and for long periods; whether a period is long (0 or 1) is the index.
_SAME_PLACE: Final = (0.40, 0.35)  # strays with another one a period before: tables have more
_MIN_DISTINCT: Final = (0.50, 0.87)  # different contexts of strays, of those that chance would give
_MIN_DISTINCT_DIGITS: Final = 0.75  # the same for short periods with many digits
_MANY_DIGITS: Final = 0.25  # share of digits above which it may be a table
_EVEN_GAPS: Final = 0.60  # gaps between strays that are equal in a grid
# The longer look: the same quantities, as shares of its window.
_STRETCH_COMMONEST: Final = 0.18
_STRETCH_NEAR: Final = 0.37
_STRETCH_STARTS: Final = 8  # strays that there must be to tell noise from records
_STRETCH_SAME_PLACE: Final = 0.05  # more than by chance
_STRETCH_DISTINCT: Final = 0.85
_STRETCH_DIGITS: Final = 0.40  # share of digits above which the next three are required
_SURE_PERIOD, _SURE_NEAR, _SURE_DISTINCT = 12, 0.50, 0.90


@dataclass(frozen=True, slots=True)
class WindowLoop:
    """A loop that the last `covered` tokens belong to, with its period in tokens."""

    period: int
    covered: int


class _Look(NamedTuple):
    """What the last `width` lags say about one period.

    `new` of them are 0, `near` are close to one to three periods, `far` are neither and beyond the
    period; `new` and `far` ones are strays. `starts` are the indices in the window at which strays
    begin; `late_stray` tells whether there is a stray in the last three quarters.
    """

    period: int
    width: int
    new: int
    near: int
    far: int
    starts: list[int]
    late_stray: bool


def find_noisy_cycle(
    tokens: Sequence[int], lags: Sequence[int], digits: Mapping[int, int]
) -> WindowLoop | None:
    """Return the cycle with single tokens swapped, dropped or added that the stream ends with.

    `lags` are those of 4-grams, one per token; `digits` maps token ids of digits to their values.
    None if there is no such cycle.
    """
    recent = lags[-_RECENT:]
    if recent.count(0) > _RECENT_NEW:
        return None
    period, count = _most_common_lag(recent)
    if count < _MIN_COMMONEST:
        return None
    long = period >= _LONG_PERIOD
    # Lags tell nothing of the first copy: so many of them mean `period` more tokens of the cycle.
    width = max(_COVER - period, _COPIES[long] * period)
    look = _inspect_window(lags, period, width)
    if look is None or not _is_noisy(look):
        return None
    many_digits = share_of_digits(digits, tokens[-width:]) > _MANY_DIGITS
    if long and many_digits and len(look.starts) < 3:  # too few to tell noise from a table
        return None
    if long and (many_digits or len(look.starts) > _MANY_STRAYS * width):
        look = _inspect_window(lags, period, 2 * width)
        if look is None or not _is_noisy(look):
            return None
    if _is_table(tokens, look, digits, many_digits):
        return None
    return WindowLoop(period, look.width + period)


def find_noisy_stretch(
    tokens: Sequence[int], lags: Sequence[int], digits: Mapping[int, int]
) -> WindowLoop | None:
    """Return the cycle with more noise, and for longer, that the stream ends with, or None.

    `lags` are those of 4-grams or of 8-grams.
    """
    width = min(_STRETCH, len(lags))
    period, count = _most_common_lag(lags[-width:])
    # Six copies at least, a choice; one or two tokens have no place to tell strays apart by.
    if count < _STRETCH_COMMONEST * width or not 2 < period < width // 6:
        return None
    look = _inspect_window(lags, period, width - period)
    if look is None or look.near < _STRETCH_NEAR * look.width or look.far > _MAX_FAR * look.width:
        return None
    n = len(look.starts)
    if n < _STRETCH_STARTS:
        return None
    least = _STRETCH_DISTINCT
    if share_of_digits(digits, tokens[-width:]) > _STRETCH_DIGITS:  # may be a table: be sure
        if period < _SURE_PERIOD or look.near < _SURE_NEAR * look.width:
            return None
        least = _SURE_DISTINCT
    slack = min(2, period // 4)  # tokens by which the places of two strays may differ
    by_chance = 1 - (1 - n / look.width) ** (2 * slack + 1)
    if (
        _same_place_share(look) > by_chance + _STRETCH_SAME_PLACE
        or _distinct_share(tokens, look) < least
        or _is_even(look)
    ):
        return None
    return WindowLoop(period, width)


def share_of_digits(digits: Mapping[int, int], window: Sequence[int]) -> float:
    """Return the share of the tokens of `window` that are digits, 0 to 1."""
    return sum(map(digits.__contains__, window)) / len(window)


def _most_common_lag(lags: Sequence[int]) -> tuple[int, int]:
    """Return the most common lag other than 0, and how many lags differ from it by at most one."""
    counts = Counter(lags)
    del counts[0]
    if not counts:
        return 0, 0
    period, count = counts.most_common(1)[0]
    return period, count + counts[period - 1] + counts[period + 1]


def _inspect_window(lags: Sequence[int], period: int, width: int) -> _Look | None:
    """Return what the last `width` lags say about a period; None if there are too few."""
    if len(lags) < width + period:
        return None
    window = lags[-width:]
    kind = {lag: _classify_lag(lag, period) for lag in set(window)}
    stray = [kind[lag] == "stray" for lag in window]
    new = window.count(0)
    return _Look(
        period,
        width,
        new,
        near=sum(kind[lag] == "near" for lag in window),
        far=sum(stray) - new,
        starts=[i for i in range(1, width) if stray[i] and not stray[i - 1]],
        late_stray=any(stray[width // 4 :]),
    )


def _classify_lag(lag: int, period: int) -> Literal["near", "inner", "stray"]:
    """Return "near" for about 1 to 3 periods, "inner" for less than a period, else "stray"."""
    copies = (lag + period // 2) // period
    if 1 <= copies <= 3 and abs(lag - copies * period) <= min(4, period // 4):
        return "near"
    return "inner" if 0 < lag <= period else "stray"


def _is_noisy(look: _Look) -> bool:
    """Return whether most lags fit the period and a few do not; an exact cycle has its own rule."""
    return (
        look.late_stray
        and look.near >= _MIN_NEAR * look.width
        and look.far <= _MAX_FAR * look.width
        and look.new + look.far <= _MAX_STRAY * look.width
    )


def _is_table(
    tokens: Sequence[int], look: _Look, digits: Mapping[int, int], many_digits: bool
) -> bool:
    """Return whether the strays look like the contents of records of one layout (see above)."""
    n, period = len(look.starts), look.period
    long = period >= _LONG_PERIOD
    first = len(tokens) - look.width
    if long and 2 * sum(tokens[first + i] in digits for i in look.starts) >= n > 0:
        return True  # most of what is new in a record are numbers
    if n < 3 or period <= 2:
        return False
    if _same_place_share(look) >= _SAME_PLACE[long] or _is_even(look):
        return True
    least = _MIN_DISTINCT_DIGITS if many_digits and not long else _MIN_DISTINCT[long]
    return _distinct_share(tokens, look) < least


def _same_place_share(look: _Look) -> float:
    """Return the share of strays that have another one a period before."""
    slack, known = min(2, look.period // 4), set(look.starts)
    late = [i for i in look.starts if i >= look.period]
    again = sum(any(i - look.period + d in known for d in range(-slack, slack + 1)) for i in late)
    return again / len(late) if late else 0.0


def _distinct_share(tokens: Sequence[int], look: _Look) -> float:
    """Return the number of different 3-grams before strays, over the number that chance would give.

    n strays at random places of a cycle meet period * (1 - (1 - 1/period)**n) different places on
    average.
    """
    first, n = len(tokens) - look.width, len(look.starts)
    before = {tuple(tokens[first + i - 3 : first + i]) for i in look.starts}
    return len(before) / (look.period * (1 - (1 - 1 / look.period) ** n)) if n else 1.0


def _is_even(look: _Look) -> bool:
    """Return whether strays come at even distances, as the ends of rows do."""
    gaps = [b - a for a, b in pairwise(look.starts)]
    return len(gaps) >= 3 and Counter(gaps).most_common(1)[0][1] >= _EVEN_GAPS * len(gaps)
