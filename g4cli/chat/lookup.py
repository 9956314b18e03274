"""Prompt lookup: draft the next tokens by copying what followed the same tokens earlier.

This works well for answers that repeat parts of their prompt (a text to correct, code to change,
names, numbers), and a draft costs little more than a dictionary lookup
(apoorvumang/prompt-lookup-decoding). The text is indexed by every run of `NGRAM` tokens. Of the
latest positions at which the last `NGRAM` tokens occurred before, the one with the longest match
backwards is copied from, since a longer match is less often chance.

Sans-I/O: token ids in, token ids out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

NGRAM: Final = 3
"""Tokens that must match before anything is drafted: two match too often by chance."""
# Positions that are compared, newest first, and tokens that are compared backwards at each: choices
# that keep the time of a draft at some microseconds.
_MAX_CANDIDATES: Final = 8
_MAX_MATCH: Final = 32
_NOWHERE: Final = -1
# Tokens without a draft after a round that did not pay, at first and at most. A choice: after 128
# tokens the text is another one.
_FIRST_WAIT: Final = 8
_LAST_WAIT: Final = 128
# Weight of the rounds before in the gain: text switches between new and repeated parts within a
# sentence.
_MEMORY: Final = 0.5


class PromptLookup:
    """The tokens of a conversation, indexed by every run of `NGRAM` of them.

    Adding or removing a token costs the same however many there are: for each position the previous
    position with the same run is stored, so that the index can be undone step by step.
    """

    def __init__(self) -> None:
        self._tokens: list[int] = []
        # A position is the number of tokens up to the end of a run: what follows it has this index.
        self._newest: dict[tuple[int, ...], int] = {}  # run -> its last position
        self._before: list[int] = []  # for each token: the position before that of its run

    def __len__(self) -> int:
        """Return the number of tokens in the text."""
        return len(self._tokens)

    def add_token(self, token: int) -> None:
        """Append a token to the text."""
        self._tokens.append(token)
        key = tuple(self._tokens[-NGRAM:])
        self._before.append(self._newest.get(key, _NOWHERE))
        if len(key) == NGRAM:
            self._newest[key] = len(self._tokens)

    def set_tokens(self, tokens: Sequence[int]) -> None:
        """Replace the text with `tokens`; only what follows the common prefix is indexed again.

        Finding the prefix takes some nanoseconds per token, once per prompt.
        """
        n_same = 0
        for old, new in zip(self._tokens, tokens, strict=False):
            if old != new:
                break
            n_same += 1
        self._truncate(n_same)
        for token in tokens[n_same:]:
            self.add_token(token)

    def draft_tokens(self, token: int, count: int) -> list[int]:
        """Return `count` tokens that may follow `token`, or none; `token` itself is not added.

        Positions of images and sounds (negative numbers) are never drafted.
        """
        tokens = self._tokens
        end = len(tokens)
        if end < NGRAM - 1:
            return []
        position = self._newest.get((*tokens[end - NGRAM + 1 :], token), _NOWHERE)
        best, best_length = _NOWHERE, 0
        for _ in range(_MAX_CANDIDATES):
            if position == _NOWHERE:
                break
            length = self._count_common_past(position)
            if length > best_length:
                best, best_length = position, length
            position = self._before[position - 1]
        if best == _NOWHERE:
            return []
        drafted: list[int] = []
        for index in range(best, best + count):
            # Beyond the end of the text, a repetition continues with what was just drafted.
            following = tokens[index] if index < end else (token, *drafted)[index - end]
            if following < 0:
                return []
            drafted.append(following)
        return drafted

    def _count_common_past(self, position: int) -> int:
        """Return how many tokens before `position` equal the last ones, at most `_MAX_MATCH`."""
        tokens, end = self._tokens, len(self._tokens)
        length = NGRAM
        while (
            length < min(_MAX_MATCH, position)
            and tokens[position - 1 - length] == tokens[end - length]
        ):
            length += 1
        return length

    def _truncate(self, length: int) -> None:
        """Remove all tokens after the first `length` from the text and the index."""
        while len(self._tokens) > length:
            key = tuple(self._tokens[-NGRAM:])
            before = self._before.pop()
            if before != _NOWHERE:
                self._newest[key] = before
            elif len(key) == NGRAM:
                del self._newest[key]
            self._tokens.pop()


class DraftPacer:
    """Decides when drafting pays, from tokens alone: the same seed gives the same answer.

    A round of drafting costs `cost` single tokens more than one token, and each accepted token
    saves one. While rounds cost more than they save, the wait before the next one doubles: 8, 16,
    ... 128 tokens.
    """

    def __init__(self, cost: float) -> None:
        self._cost = cost
        self._gain = 0.0  # single tokens saved
        self._wait = 0  # tokens until the next round
        self._next_wait = _FIRST_WAIT

    @property
    def is_due(self) -> bool:
        """Whether tokens should be drafted now."""
        return self._wait == 0

    def count_single_token(self) -> None:
        """Count one token that was evaluated alone."""
        self._wait = max(0, self._wait - 1)

    def record_round(self, n_accepted: int) -> None:
        """Take a finished round into account, of which `n_accepted` tokens were accepted."""
        self._gain = _MEMORY * self._gain + (n_accepted - self._cost)
        if self._gain >= 0:
            self._next_wait = _FIRST_WAIT
            return
        self._wait, self._next_wait = self._next_wait, min(_LAST_WAIT, 2 * self._next_wait)
        self._gain = 0.0
