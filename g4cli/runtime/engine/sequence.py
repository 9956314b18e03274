"""One sequence of a context: the tokens it holds, and how a new prompt makes use of them.

Prompts of a conversation share long prefixes. `reuse_prefix` compares a new prompt with what the
sequence holds and keeps the common prefix. Where the sliding window no longer holds the end of that
prefix (see `context`), the newest checkpoint that is a prefix of the prompt is restored; one is
made at the end of each prompt, where retries and edits branch off.
"""

from __future__ import annotations

import time
from collections.abc import Sequence as Tokens
from dataclasses import dataclass
from typing import TYPE_CHECKING

from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.prompt_tokens import PromptTokens

if TYPE_CHECKING:
    from g4cli.runtime.engine.sequence_states import SequenceStates
    from g4cli.runtime.engine.state_cache import StateCache


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    """The sliding window after `tokens`, as `Context.save_window` returns it."""

    tokens: tuple[int, ...]
    state: bytes


@dataclass(frozen=True, slots=True)
class Reused:
    """How much of a prompt is in the context.

    `restored`: it came back from a checkpoint or a saved state, and cells may have moved.
    """

    n_tokens: int
    restored: bool


class Sequence:
    """The KV cache of one conversation within a context."""

    def __init__(
        self, context: Context, prompts: PromptTokens, *, number: int = 0, checkpoint_bytes: int
    ) -> None:
        """`number`: llama.cpp's id. `checkpoint_bytes`: for all checkpoints together."""
        self.number = number
        self.tokens: list[int] = []
        self._context, self._prompts = context, prompts
        self._checkpoint_bytes = checkpoint_bytes
        self._checkpoints: list[_Checkpoint] = []
        self.states: SequenceStates | None = None  # saves and restores what it holds
        self._is_unsaved = False  # see `mark_unsaved`
        self._is_prompt_end = False  # see `mark_prompt_end`

    def use_states(self, cache: StateCache) -> None:
        """Save and restore states of prompts from now on."""
        from g4cli.runtime.engine.sequence_states import SequenceStates  # not every chat needs it

        self.states = SequenceStates(cache, self._context, self._prompts, self.number)

    def count_common(self, prompt: Tokens[int]) -> int:
        """Return how many tokens at the beginning are the same in `prompt` and here.

        The last token of `prompt` is not counted: it is always evaluated, since its logits are
        needed. A run that is the same in part only is not counted either.
        """
        common = 0
        for have, want in zip(self.tokens, prompt[:-1], strict=False):
            if have != want:
                break
            common += 1
        return self._prompts.round_down_to_run(prompt, common)

    def count_reusable(self, prompt: Tokens[int]) -> int:
        """Return how many tokens of `prompt` would not have to be evaluated here."""
        common = self.count_common(prompt)
        if self._can_go_on(common):
            return common
        checkpoint = self._find_checkpoint(prompt)
        return min(len(checkpoint.tokens), len(prompt) - 1) if checkpoint else 0

    def reuse_prefix(self, prompt: Tokens[int]) -> Reused:
        """Truncate the sequence to the longest usable common prefix with `prompt`."""
        self._is_unsaved = self._is_prompt_end = False  # what a failed turn has left
        common = self.count_common(prompt)
        restored = not self._can_go_on(common)
        if restored:
            common = self._restore_checkpoint(prompt)
        if self.states is not None:
            saved = self.states.restore_prefix(prompt, common)
            if saved is not None:
                common, restored = saved, True
                self.tokens[:] = prompt[:common]
        self.truncate(common)
        if self.states is not None:
            self.states.plan_reading(prompt, common)
        return Reused(common, restored)

    def limit_batch(self, position: int, most: int) -> int:
        """Return how many tokens of a prompt to evaluate at once at `position`, `most` at most."""
        return self.states.limit_batch(position, most) if self.states else most

    def record_reading(self, n_tokens: int, started: float) -> None:
        """Note that `n_tokens` more tokens of prompts are evaluated, of this one and of others.

        `started`: when their evaluation began, by the clock `time.perf_counter`.
        """
        if self.states is not None:
            self._context.synchronize()
            self.states.cache.record_reading(n_tokens, time.perf_counter() - started)

    def save_border(self) -> None:
        """Save the state if a prompt is read up to where others may branch off."""
        if self.states is not None:
            self.states.save_border(self.tokens)

    def mark_unsaved(self) -> None:
        """Let the next `save_turn` save what the sequence holds now, or what follows it."""
        self._is_unsaved = True

    def mark_prompt_end(self) -> None:
        """Let the next `save_turn` make a checkpoint too: a prompt ends with what it holds now."""
        self._is_prompt_end = True

    def save_turn(self) -> bool:
        """Save what `mark_unsaved` and `mark_prompt_end` asked for; return whether cells moved.

        It takes time: the tokens of the answer up to here should be sent before.
        """
        if self._is_prompt_end:
            self._is_prompt_end = False
            self.add_checkpoint()
        if self.states is None or not self._is_unsaved:
            return False
        self._is_unsaved = False
        return self.states.save_turn(self.tokens)

    def truncate(self, n_past: int) -> None:
        """Remove all tokens from position `n_past` on."""
        self._context.truncate(n_past, self.number)
        del self.tokens[n_past:]
        if self.states is not None:
            self.states.note_truncated(n_past)

    def truncate_unfinished(self, prompt: Tokens[int]) -> None:
        """Keep what llama.cpp has of `prompt` after an evaluation that was interrupted."""
        n_past = max(self._context.find_last_position(self.number) + 1, 0)
        n_past = self._prompts.round_down_to_run(prompt, n_past)
        self.tokens[:] = prompt[:n_past]
        self.truncate(n_past)

    def add_checkpoint(self) -> None:
        """Make a checkpoint of the window at the end of a prompt."""
        self.mark_unsaved()
        if not self._context.model.n_swa:
            return
        # A prompt within the window needs one too: a long answer moves the window on.
        try:
            state = self._context.save_window(self._checkpoint_bytes, self.number)
        except MemoryError:  # not at the cost of the answers that run
            return
        if state is None:
            return
        tokens = tuple(self.tokens)
        kept = [
            c
            for c in self._checkpoints
            if tokens[: len(c.tokens)] == c.tokens and c.tokens != tokens
        ]
        kept.append(_Checkpoint(tokens, state))
        while sum(len(c.state) for c in kept) > self._checkpoint_bytes:
            del kept[0]
        self._checkpoints = kept

    def _can_go_on(self, n_past: int) -> bool:
        """Return whether evaluation may go on after `n_past` tokens; at the end it always may."""
        return n_past == len(self.tokens) or self._context.can_branch(n_past, self.number)

    def _find_checkpoint(self, prompt: Tokens[int]) -> _Checkpoint | None:
        """Return the newest checkpoint that is a prefix of `prompt`."""
        for checkpoint in reversed(self._checkpoints):
            n = len(checkpoint.tokens)
            if tuple(prompt[:n]) != checkpoint.tokens:
                continue
            # The full-attention layers must still hold these positions.
            if tuple(self.tokens[:n]) == checkpoint.tokens:
                return checkpoint
        return None

    def _restore_checkpoint(self, prompt: Tokens[int]) -> int:
        """Restore the newest checkpoint that is a prefix of `prompt`.

        Return how many tokens of `prompt` are usable then; its last one is never among them.
        """
        checkpoint = self._find_checkpoint(prompt)
        if checkpoint is None:
            return 0
        n = len(checkpoint.tokens)
        self._context.truncate(n, self.number)
        restored = self._context.restore_window(checkpoint.state, self.number)
        usable = min(n, len(prompt) - 1)
        return usable if restored and self._context.can_branch(usable, self.number) else 0
