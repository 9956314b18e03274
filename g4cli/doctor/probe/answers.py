"""What a greedy answer looks like from outside: is it a loop, are its numbers sound, is it the right one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from g4cli.doctor.probe.child import GreedyRun

# An answer that repeats from its first tokens on: at least this many copies of at most this period.
_COPIES: Final = 6
_PERIOD: Final = 8
_LATE_START: Final = 4
# Share of logits at the softcap of 30 above which a network is broken; sound ones have none.
PINNED: Final = 0.01
# Share of right answers below which a network is broken: words of three answers; characters of many.
RIGHT: Final = {False: 0.01, True: 0.8}
_SHORT_KEY: Final = 8


@dataclass(frozen=True, slots=True)
class EarlyLoop:
    """A run that is periodic from token `start` on."""

    period: int
    start: int
    text: str


def early_loop(run: GreedyRun) -> EarlyLoop | None:
    """Return the loop that the run consists of, if it starts within the first tokens and lasts to the end."""
    tokens = run.tokens
    for start in range(_LATE_START + 1):
        for period in range(1, _PERIOD + 1):
            body = tokens[start:]
            if len(body) >= _COPIES * period and all(
                body[i] == body[i - period] for i in range(period, len(body))
            ):
                share = run.text[: max(1, round(len(run.text) * period / max(1, len(body))))]
                return EarlyLoop(period, start, share)
    return None


def is_broken(run: GreedyRun) -> bool:
    """Return whether the answer alone shows a fault: a loop at once, no numbers, or all at the softcap."""
    return bool(run.non_finite) or run.saturated > PINNED or early_loop(run) is not None


def agreement(run: GreedyRun, want: str) -> float:
    """Return 1 if a short key is in the answer, else the share of characters before the first difference."""
    if len(want) <= _SHORT_KEY:
        return float(want in run.text.lower())
    got = run.text.strip()
    n = min(len(want), max(len(got), 1))
    same = next((i for i in range(n) if i >= len(got) or got[i] != want[i]), n)
    return same / n


def share_right(runs: Sequence[GreedyRun], wanted: Sequence[str]) -> float:
    """Return the mean agreement of answers with what was wanted, 0 without any."""
    scores = [agreement(run, want) for run, want in zip(runs, wanted, strict=False)]
    return sum(scores) / len(scores) if scores else 0.0


def shown(run: GreedyRun) -> str:
    """Return the answer, shortened; a loop once."""
    loop = early_loop(run)
    if loop is not None:
        return f"{loop.text} ..."
    return run.text if len(run.text) <= 60 else run.text[:57] + "..."
