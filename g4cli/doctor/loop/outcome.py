"""What one experiment gave: a loop, a sound answer, nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from g4cli.doctor.loop.settings import LoopSettings
from g4cli.loops import LoopDetector

Outcome: TypeAlias = Literal["loop", "garbage", "ended", "unended", "failed", "skipped"]
"""What became of an answer.

loop      it repeats itself
garbage   a quarter of it and more are <unusedNN>, padding or image tokens
ended     the model ended it
unended   it was cut off, and does not repeat itself
failed    llama.cpp crashed or refused
skipped   it was not run
"""

# A cycle of at most so many tokens that covers so many, in so many copies. A shorter repetition
# than the detector's is enough, since nobody's answer is stopped by it.
_CYCLES: Final = ((16, 64, 6), (64, 160, 4))
_NO_TEXT: Final = re.compile(r"<unused\d+>|<pad>|<(?:image|audio)\|>|<\|(?:image|audio)\|?>")


@dataclass(frozen=True, slots=True)
class Repetition:
    """A cycle of `period` tokens at the end of an answer that begins at token `onset`."""

    period: int
    onset: int


@dataclass(frozen=True, slots=True)
class LoopResult:
    """One experiment: its settings, what became of the answer, and the answer.

    `reason` says why there is none. `unit` is the text of one copy of the cycle.
    """

    settings: LoopSettings
    outcome: Outcome
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
    for longest, cover, copies in _CYCLES:
        for period in range(1, longest + 1):
            covered = _measure_cycle(tokens, period)
            if covered >= max(cover, copies * period):
                return Repetition(period, len(tokens) - covered)
    detector = LoopDetector(digits={})
    loop = None
    for token in tokens:
        loop = detector.feed(token)
    return Repetition(loop.period, loop.onset) if loop else None


def _measure_cycle(tokens: Sequence[int], period: int) -> int:
    """Return how many tokens the cycle of that period at the end covers, 0 if it is no cycle."""
    n = len(tokens)
    at = n - 1
    while at >= period and tokens[at] == tokens[at - period]:
        at -= 1
    same = n - 1 - at
    return same + period if same else 0


def is_garbage(text: str, n_tokens: int) -> bool:
    """Return whether a quarter and more of the tokens of a text stand for no text."""
    return n_tokens >= 8 and 4 * len(_NO_TEXT.findall(text)) >= n_tokens
