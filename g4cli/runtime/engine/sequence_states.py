"""What one sequence has read is saved, and comes back instead of being read again.

A sequence that gets a prompt asks for the longest prefix of it that was saved (`restore_prefix`).
What it reads itself it saves, at these points:

    the system turn         other conversations begin with it
    the last blank line, or the last image or sound, of the last question
                            the same document may be asked about again
    the end of the prompt   the answer may be asked for again, or its thought is left out later
    the end of the answer   the conversation continues

The first two are points inside a prompt: its reading pauses there (`limit_batch`). The others are
saved when the first token of the answer is out, and when the last one is: no token waits for it.

Nothing is saved that is read in less time than writing and loading it would take. Within a
conversation, a newer state takes the place of older ones, but the first and the last few stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.prompt_tokens import PromptTokens
from g4cli.runtime.engine.state_cache import Block, SavedState, StateCache
from g4cli.runtime.engine.state_copy import (
    count_state_bytes,
    count_window_bytes,
    put_state,
    take_state,
)
from g4cli.runtime.engine.state_layout import UnknownLayoutError, fit_to_context
from g4cli.store.states.folder import LOG, StateName
from g4cli.store.states.keys import digest_prefix
from g4cli.store.states.rows import BLOCK_TOKENS

MIN_TOKENS: Final = 64
"""States of fewer tokens are not saved, and prefixes that save less reading are not restored."""

_MIN_NEW: Final = 32  # a choice: tokens that a state must have more than the one before it
_KEPT_OLDER: Final = 3  # a choice: how many turns back an answer is usually asked for again


@dataclass(slots=True)
class SequenceStates:
    """What a sequence has saved of its tokens, and restores instead of reading."""

    cache: StateCache
    context: Context
    prompts: PromptTokens
    number: int
    # Lengths of the prefixes that are saved, the blocks of the tokens, the states that were saved
    # at the ends of turns, and where the reading of this prompt pauses (in tokens from its start).
    _points: list[int] = field(default_factory=list)
    _blocks: list[Block] = field(default_factory=list)
    _saved: list[StateName] = field(default_factory=list)
    _borders: list[int] = field(default_factory=list)

    def restore_prefix(self, prompt: Sequence[int], n_have: int) -> int | None:
        """Restore the longest saved prefix of `prompt`; return how many tokens are usable.

        The last token of `prompt` is never among them. None: nothing was done, since no state is
        longer than the `n_have` tokens that the sequence has already; 0: llama.cpp took none, and
        the sequence is empty.
        """
        done = None
        packed = self.prompts.pack_tokens(prompt)
        if packed is None:
            return None
        for name in self.cache.find_states(packed):
            usable = min(name.n_tokens, len(prompt) - 1)
            if usable < n_have + MIN_TOKENS or done:
                break
            if name.n_tokens <= self.context.n_ctx and (found := self.cache.read_state(name)):
                try:
                    done = usable if self._put_into_context(found.state, name, usable) else 0
                except MemoryError:  # for a copy of the state: nothing was done yet
                    LOG.debug("no memory to restore a state of %d tokens", name.n_tokens)
                if done:
                    self._points, self._blocks, self._saved = [usable], [*found.blocks], []
        return done

    def note_truncated(self, n_past: int) -> None:
        """Forget what is known of the tokens from position `n_past` on."""
        self._points = [n for n in self._points if n <= n_past]
        self._saved = [name for name in self._saved if name.n_tokens <= n_past]
        del self._blocks[n_past // BLOCK_TOKENS :]

    def plan_reading(self, prompt: Sequence[int], n_past: int) -> None:
        """Choose where the reading of `prompt` pauses; `n_past` tokens of it are there."""
        self._borders, last = [], n_past
        for border in sorted(self.cache.find_borders(prompt)):
            border = self.prompts.round_down_to_run(prompt, border)
            if border - last >= MIN_TOKENS:
                self._borders.append(border)
                last = border

    def limit_batch(self, position: int, most: int) -> int:
        """Return how many tokens to evaluate at `position`: `most`, or up to the next pause."""
        return min([most, *(border - position for border in self._borders if border > position)])

    def save_border(self, tokens: Sequence[int]) -> None:
        """Save the state if the reading has come to a pause. `tokens` are those evaluated."""
        if len(tokens) in self._borders:
            self._save(tokens)

    def save_turn(self, tokens: Sequence[int]) -> bool:
        """Save the state at the end of a prompt or answer; return whether it was taken.

        Taking it moves the cells of the window (`state_copy`).
        It takes the place of those in the middle: the first one and the last `_KEPT_OLDER`, this
        one included, stay.
        """
        name = self._save(tokens, self._saved[1 : -_KEPT_OLDER + 1])
        if name is None:
            return False
        del self._saved[1 : -_KEPT_OLDER + 1]
        self._saved.append(name)
        return True

    def _save(
        self, tokens: Sequence[int], superfluous: Sequence[StateName] = ()
    ) -> StateName | None:
        """Take the state and have it written; return its name, None if it is not worthwhile."""
        n_tokens, cache = len(tokens), self.cache
        n_new = n_tokens - max(self._points, default=0)
        if n_tokens < MIN_TOKENS or n_new < _MIN_NEW or not cache.has_room:
            return None
        n_window = count_window_bytes(self.context, self.number)
        n_rows = count_state_bytes(self.context, self.number) - n_window
        if not cache.is_worthwhile(n_new, n_window + n_rows * n_new // n_tokens):
            return None
        packed = self.prompts.pack_tokens(tokens)
        if packed is None:
            return None
        try:
            state = take_state(self.context, self.number)
        except MemoryError as err:
            LOG.debug("a state of %d tokens is not saved: %s", n_tokens, err)
            return None
        if state is None:
            return None
        name = StateName(n_tokens, digest_prefix(packed))
        n_blocks = n_tokens // BLOCK_TOKENS
        self._blocks += [Block() for _ in range(n_blocks - len(self._blocks))]
        self._points.append(n_tokens)
        saved = SavedState(state, tuple(self._blocks[:n_blocks]))
        cache.submit(partial(cache.write_state, name, saved, superfluous))
        return name

    def _put_into_context(self, state: memoryview, name: StateName, usable: int) -> bool:
        """Put a state into the context; return whether evaluation may go on after `usable`."""
        try:
            fitted = fit_to_context(state, name.n_tokens, self.context.n_parallel)
        except UnknownLayoutError:
            fitted = None
        if fitted is not None and put_state(self.context, fitted, self.number):
            last = self.context.find_last_position(self.number)
            if last == name.n_tokens - 1 and self.context.can_branch(usable, self.number):
                return True
        self.context.truncate(0, self.number)
        self.cache.drop_state(name)
        return False
