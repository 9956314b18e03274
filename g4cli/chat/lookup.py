"""Guess the next tokens from what stands in the context already: the text after the same tokens before.

Answers that repeat their question (a text to correct, code to change, names, numbers) are guessed well; a
guess costs a look into a dictionary. Sans-I/O: token ids in, token ids out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

NGRAM: Final = 3
"""Tokens that must be the same before a guess is made: two are too often the same by chance."""
_CANDIDATES: Final = 8  # places looked at, newest first
_LONGEST: Final = 32  # tokens compared backwards at each
_NOWHERE: Final = -1


class Lookup:
    """The tokens of a conversation, indexed by every run of `NGRAM` of them.

    Adding or removing a token costs the same however many there are: each place remembers the place before
    it with the same run, so the index can be taken back step by step.
    """

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._newest: dict[tuple[int, ...], int] = {}
        self._before: list[int] = []

    def __len__(self) -> int:
        """Return how many tokens are known."""
        return len(self._tokens)

    def push(self, token: int) -> None:
        """Add the next token."""
        self._tokens.append(token)
        key = tuple(self._tokens[-NGRAM:])
        self._before.append(self._newest.get(key, _NOWHERE))
        if len(key) == NGRAM:
            self._newest[key] = len(self._tokens)

    def follow(self, tokens: Sequence[int]) -> None:
        """Bring the text to exactly `tokens`; only what differs from what is known costs anything.

        The common start is found by comparing: some nanoseconds a token, once a question.
        """
        same = 0
        for have, want in zip(self._tokens, tokens, strict=False):
            if have != want:
                break
            same += 1
        self._truncate(same)
        self._extend(tokens[same:])

    def guess(self, token: int, count: int) -> list[int]:
        """Return `count` tokens that may come after `token`, or none; `token` itself is not added.

        Of the last places with the same `NGRAM` tokens the one with the longest common past is taken.
        Positions of images and sounds (negative numbers) are never guessed.
        """
        tokens = self._tokens
        end = len(tokens)
        if end < NGRAM - 1:
            return []
        place = self._newest.get((*tokens[end - NGRAM + 1 :], token), _NOWHERE)
        best, best_length = _NOWHERE, 0
        for _ in range(_CANDIDATES):
            if place == _NOWHERE:
                break
            length = self._common_past(place)
            if length > best_length:
                best, best_length = place, length
            place = self._before[place - 1]
        if best == _NOWHERE:
            return []
        guessed: list[int] = []
        for index in range(best, best + count):
            # A text that repeats itself is continued beyond its end with what was just guessed.
            found = tokens[index] if index < end else (token, *guessed)[index - end]
            if found < 0:
                return []
            guessed.append(found)
        return guessed

    def _common_past(self, place: int) -> int:
        """Return how many tokens before `place` equal the last ones, `_LONGEST` at most."""
        tokens, end = self._tokens, len(self._tokens)
        length = NGRAM
        while length < min(_LONGEST, place) and tokens[place - 1 - length] == tokens[end - length]:
            length += 1
        return length

    def _extend(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self.push(token)

    def _truncate(self, length: int) -> None:
        while len(self._tokens) > length:
            key = tuple(self._tokens[-NGRAM:])
            before = self._before.pop()
            if before != _NOWHERE:
                self._newest[key] = before
            elif len(key) == NGRAM:
                del self._newest[key]
            self._tokens.pop()


class Pace:
    """When guessing is worth its price. Depends on tokens alone, so a seed gives the same answer each time.

    A round that verifies guesses costs `price` tokens more than a single one, and each guess that was right
    saves one. While rounds lose, g4 waits longer and longer before the next: 8, 16 ... 128 tokens.
    """

    def __init__(self, price: float) -> None:
        self._price = price
        self._gain = 0.0
        self._wait = 0
        self._next_wait = _FIRST_WAIT

    @property
    def is_due(self) -> bool:
        """Return whether the next token may be guessed at."""
        return self._wait == 0

    def pass_by(self) -> None:
        """Count one token that was not guessed at."""
        self._wait = max(0, self._wait - 1)

    def settle(self, n_right: int) -> None:
        """Take the outcome of a round into account."""
        # A short memory: text changes between the new and the repeated within a sentence.
        self._gain = 0.5 * self._gain + (n_right - self._price)
        if self._gain >= 0:
            self._next_wait = _FIRST_WAIT
            return
        self._wait, self._next_wait = self._next_wait, min(_LAST_WAIT, 2 * self._next_wait)
        self._gain = 0.0


_FIRST_WAIT: Final = 8
_LAST_WAIT: Final = 128
