"""Tell whether a stream of token ids has fallen into a loop; needs no text, no model and no clock.

    feed(id) -> None        nothing to report
    feed(id) -> Loop        stage 'suspect' once, when a cycle covers about a hundred tokens;
                            stage 'stop' from then on, when it covers too many to be what anybody asked for

How an exact cycle is found: a map from every run of four tokens to its last place proposes a period; from
then on one comparison a token extends the run or ends it. That is O(1) a token, and memory is bounded
because old places are forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

MAX_PERIOD: Final = 2048

_GRAM: Final = 4  # tokens that must recur before a period is proposed
_ID_BITS: Final = 20  # Gemma 4 has 2**18 ids
_GRAM_MASK: Final = (1 << _GRAM * _ID_BITS) - 1
_KEPT: Final = 8192  # tokens, and places of runs, that are remembered at least


@dataclass(frozen=True, slots=True)
class Loop:
    """A repetition: `covered` tokens from number `onset` on (counted from 0) repeat every `period` tokens."""

    kind: Literal["exact"]
    period: int
    onset: int
    covered: int
    stage: Literal["suspect", "stop"]


class LoopDetector:
    """Takes the ids of one answer, one by one. Make a new one for each answer."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._dropped = 0  # tokens that were forgotten at the front of _tokens
        self._gram = 0
        self._places: dict[int, int] = {}
        self._older_places: dict[int, int] = {}
        self._period = 0
        self._run = 0  # tokens that equal the one a period before them
        self._alarm = 0  # the run at which there is something to say
        self._stopped: Loop | None = None

    def feed(self, token_id: int) -> Loop | None:
        """Return a Loop when `token_id` completes one, else None. After a 'stop' it is returned for ever."""
        if self._stopped is not None:
            return self._stopped
        tokens = self._tokens
        here = len(tokens)
        if self._period:
            if tokens[here - self._period] == token_id:
                self._run += 1
            else:
                self._period = 0
        tokens.append(token_id)
        here += self._dropped
        self._gram = gram = (self._gram << _ID_BITS | token_id) & _GRAM_MASK
        if not self._period:
            place = self._places.get(gram)
            if place is None:
                place = self._older_places.get(gram)
            if place is not None and here - place <= MAX_PERIOD:
                self._propose(here - place)
        self._places[gram] = here
        if len(self._places) >= _KEPT:
            self._older_places, self._places = self._places, {}
        if len(tokens) >= 2 * _KEPT:
            del tokens[:_KEPT]
            self._dropped += _KEPT
        if self._period and self._run == self._alarm:
            return self._report()
        return None

    def _propose(self, period: int) -> None:
        self._period, self._run = period, min(_GRAM, len(self._tokens) - period)
        self._alarm = max(self._run, suspect_cover(period) - period)

    def _report(self) -> Loop:
        covered = self._run + self._period
        onset = self._dropped + len(self._tokens) - covered
        stop = stop_cover(self._period)
        if covered >= stop:
            self._stopped = Loop("exact", self._period, onset, covered, "stop")
            return self._stopped
        self._alarm = stop - self._period
        return Loop("exact", self._period, onset, covered, "suspect")


def suspect_cover(period: int) -> int:
    """Return the tokens that a cycle must cover to be worth a note."""
    return max(96, (3 if period >= 64 else 4) * period)


def stop_cover(period: int) -> int:
    """Return the tokens that a cycle must cover to end the answer.

    Cover, not the number of copies, keeps false alarms away: tables, rules and zero matrices repeat often
    but end. One or two tokens for ever is what a broken file prints, so these stop first.
    """
    return max(250 if period <= 2 else 384, (3 if period >= 64 else 4) * period)
