"""Score a greedy answer by itself: loops, logits that are not numbers, expected words.

The checks of answers use it, and `compare.py`, which has to know whether one of two answers is
broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from g4cli.doctor.probe.child import GreedyRun

# An early loop has at least this many repetitions of at most this many tokens, and starts at this
# token or before. A choice that needs no more than the 16 tokens of a short answer where one or two
# tokens repeat, as they do in most broken files.
_MIN_REPETITIONS: Final = 6
_MAX_PERIOD: Final = 8
_MAX_START: Final = 4
# Share of logits at the softcap of 30 above which a network is broken; sound ones have none.
MAX_SATURATED: Final = 0.01
# Score (`mean_score`) below which a network is broken. For published models: none of three words
# was said. `tiny` has learned its answers by heart, and their characters are counted (a choice).
_MIN_SCORE: Final = 0.01
_MIN_SCORE_TINY: Final = 0.8
# Characters up to which an expected text is a word to find in the answer, not the answer itself.
_MAX_KEYWORD: Final = 8
_MAX_SHOWN: Final = 60  # characters of an answer in a message


@dataclass(frozen=True, slots=True)
class EarlyLoop:
    """A run that repeats `period` tokens from token `start` (0 is the first one) to its end.

    `text` is about what one period says: the share of the run's text that its tokens have.
    """

    period: int
    start: int
    text: str


def find_early_loop(run: GreedyRun) -> EarlyLoop | None:
    """Return the loop from one of the first tokens to the end of the run, or None."""
    tokens = run.tokens
    for start in range(_MAX_START + 1):
        for period in range(1, _MAX_PERIOD + 1):
            body = tokens[start:]
            if len(body) >= _MIN_REPETITIONS * period and all(
                body[i] == body[i - period] for i in range(period, len(body))
            ):
                n_characters = round(len(run.text) * period / len(body))
                return EarlyLoop(period, start, run.text[: max(1, n_characters)])
    return None


def is_broken(run: GreedyRun) -> bool:
    """Return whether the answer alone proves a fault: an early loop, NaN, saturated logits."""
    return bool(run.non_finite) or run.saturated > MAX_SATURATED or find_early_loop(run) is not None


def score_answer(run: GreedyRun, expected: str) -> float:
    """Return how well the answer agrees with `expected`, from 0 to 1.

    For a keyword (lower case): 1 if it is in the answer, else 0. For a longer text: the share of
    its characters before the first difference.
    """
    if len(expected) <= _MAX_KEYWORD:
        return float(expected in run.text.lower())
    answer = run.text.strip()
    # A run may be cut off before the end of the answer: what it lacks does not count.
    n = min(len(expected), max(len(answer), 1))
    n_same = next((i for i in range(n) if i >= len(answer) or answer[i] != expected[i]), n)
    return n_same / n


def mean_score(runs: Sequence[GreedyRun], expected: Sequence[str]) -> float:
    """Return the mean of `score_answer` for these runs and texts, from 0 to 1; 0 without any."""
    scores = [score_answer(run, text) for run, text in zip(runs, expected, strict=False)]
    return sum(scores) / len(scores) if scores else 0.0


def least_mean_score(model_name: str) -> float:
    """Return the mean score of answers below which that model is broken."""
    return _MIN_SCORE_TINY if model_name == "tiny" else _MIN_SCORE


def shorten_answer(run: GreedyRun) -> str:
    """Return the answer for a message: at most 60 characters, of a loop one period."""
    loop = find_early_loop(run)
    if loop is not None:
        return f"{loop.text} ..."
    return run.text if len(run.text) <= _MAX_SHOWN else run.text[: _MAX_SHOWN - 3] + "..."
