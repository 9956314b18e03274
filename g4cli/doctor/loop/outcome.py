"""What became of one experiment: a loop, a sound answer, nothing.

`operations/diagnose_loop.py` runs the experiments and makes the results; `search.py` and
`conclusion.py` read them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from g4cli.doctor.loop.settings import LoopSettings
from g4cli.loops.detector import LoopDetector

LoopOutcome: TypeAlias = Literal["loop", "garbage", "ended", "unended", "failed", "skipped"]
"""What became of an answer.

loop      it repeats itself
garbage   a quarter of it and more are <unusedNN>, padding or image tokens
ended     the model ended it
unended   it was cut off, and does not repeat itself
failed    llama.cpp crashed or refused
skipped   it was not run
"""


class _CycleRule(NamedTuple):
    """A cycle of at most `max_period` tokens is a loop if it covers `min_covered` tokens or more.

    `min_copies` of it are needed as well.
    """

    max_period: int
    min_covered: int
    min_copies: int


# A choice: a shorter repetition than the loop detector's is enough, since no answer of a user is
# stopped by it.
_CYCLE_RULES: Final = (_CycleRule(16, 64, 6), _CycleRule(64, 160, 4))
# An answer of this many tokens or more is garbage if this share of them is no text.
_MIN_GARBAGE_TOKENS: Final = 8
_GARBAGE_SHARE: Final = 1 / 4
# The tokens of Gemma that a sound model does not write: placeholders, padding, images, sounds.
_NO_TEXT: Final = re.compile(r"<unused\d+>|<pad>|<(?:image|audio)\|>|<\|(?:image|audio)\|?>")


@dataclass(frozen=True, slots=True)
class Repetition:
    """A cycle of `period` tokens at the end of an answer, which begins at index `onset`."""

    period: int
    onset: int


@dataclass(frozen=True, slots=True)
class LoopResult:
    """One experiment: its settings, what became of the answer, and the answer.

    `reason` says why there is none. `unit` is the text of one copy of the cycle.
    """

    settings: LoopSettings
    outcome: LoopOutcome
    n_tokens: int = 0
    seconds: float = 0.0
    text: str = ""
    repetition: Repetition | None = None
    unit: str = ""
    reason: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether the answer repeats itself or is garbage."""
        return self.outcome in ("loop", "garbage")

    @property
    def was_run(self) -> bool:
        """Whether there is an answer."""
        return self.outcome not in ("failed", "skipped")

    def as_json(self) -> dict[str, Any]:
        """Return the experiment as an object of docs/reference/schemas/doctor-loop.json."""
        found = self.repetition
        return {
            "settings": self.settings.as_json(),
            "outcome": self.outcome,
            "tokens": self.n_tokens,
            "seconds": round(self.seconds, 3),
            "period": found.period if found else None,
            "onset": found.onset if found else None,
            "unit": self.unit,
            "text": self.text,
            "reason": self.reason,
        }


def find_repetition(tokens: Sequence[int]) -> Repetition | None:
    """Return the cycle that the tokens end with, or a loop of the detector, or None."""
    for rule in _CYCLE_RULES:
        for period in range(1, rule.max_period + 1):
            covered = _measure_cycle(tokens, period)
            if covered >= max(rule.min_covered, rule.min_copies * period):
                return Repetition(period, len(tokens) - covered)
    detector = LoopDetector()  # a file of any vocabulary, whose digits are not known
    loop = None
    for token in tokens:
        loop = detector.feed(token)
    return Repetition(loop.period, loop.onset) if loop else None


def _measure_cycle(tokens: Sequence[int], period: int) -> int:
    """Return how many tokens the cycle of that period at the end covers, 0 if it is no cycle."""
    i = len(tokens) - 1
    while i >= period and tokens[i] == tokens[i - period]:
        i -= 1
    n_equal = len(tokens) - 1 - i
    return n_equal + period if n_equal else 0


def is_garbage(text: str, n_tokens: int) -> bool:
    """Return whether a quarter and more of the tokens of a text stand for no text."""
    n_no_text = len(_NO_TEXT.findall(text))
    return n_tokens >= _MIN_GARBAGE_TOKENS and n_no_text >= _GARBAGE_SHARE * n_tokens
