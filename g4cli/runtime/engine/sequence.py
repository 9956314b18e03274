"""One sequence of a context: the tokens it holds, and how a new prompt makes use of them.

Prompts of a conversation share long prefixes. `reuse_prefix` compares a new prompt with what the
sequence holds and keeps the common prefix. Where the sliding window no longer holds the end of that
prefix (see `context`), the newest checkpoint that is a prefix of the prompt is restored; one is
made at the end of each prompt, where retries and edits branch off.
"""

from __future__ import annotations

from collections.abc import Sequence as Tokens
from dataclasses import dataclass

from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.prompt_tokens import PromptTokens


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    tokens: tuple[int, ...]
    state: bytes


@dataclass(frozen=True, slots=True)
class Reused:
    """How much of a prompt is in the context; whether a checkpoint was restored for it."""

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

    def count_common(self, prompt: Tokens[int]) -> int:
        """Return the length of the common prefix with `prompt`, whose last token is never counted.

        The last token is always evaluated, since its logits are needed.
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
        return len(checkpoint.tokens) if checkpoint else 0

    def reuse_prefix(self, prompt: Tokens[int]) -> Reused:
        """Truncate the sequence to the longest usable common prefix with `prompt`."""
        common = self.count_common(prompt)
        restored = not self._can_go_on(common)
        if restored:
            common = self._restore_checkpoint(prompt)
        self.truncate(common)
        return Reused(common, restored)

    def truncate(self, n_past: int) -> None:
        """Remove all tokens from position `n_past` on."""
        self._context.truncate(n_past, self.number)
        del self.tokens[n_past:]

    def truncate_unfinished(self, prompt: Tokens[int]) -> None:
        """Keep what llama.cpp has of `prompt` after an evaluation that was interrupted."""
        n_past = max(self._context.find_last_position(self.number) + 1, 0)
        n_past = self._prompts.round_down_to_run(prompt, n_past)
        self.tokens[:] = prompt[:n_past]
        self.truncate(n_past)

    def add_checkpoint(self) -> None:
        """Make a checkpoint of the window at the end of a prompt."""
        n_swa = self._context.model.n_swa
        if not n_swa or len(self.tokens) < n_swa:
            return  # the window still holds everything
        state = self._context.save_window(self._checkpoint_bytes, self.number)
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
        return n_past == len(self.tokens) or self._context.can_branch(n_past, self.number)

    def _find_checkpoint(self, prompt: Tokens[int]) -> _Checkpoint | None:
        """Return the newest checkpoint that is a prefix of `prompt`."""
        for checkpoint in reversed(self._checkpoints):
            n = len(checkpoint.tokens)
            if n >= len(prompt) or tuple(prompt[:n]) != checkpoint.tokens:
                continue
            # The full-attention layers must still hold these positions.
            if tuple(self.tokens[:n]) == checkpoint.tokens:
                return checkpoint
        return None

    def _restore_checkpoint(self, prompt: Tokens[int]) -> int:
        """Restore the newest checkpoint that is a prefix of `prompt`; return its length, or 0."""
        checkpoint = self._find_checkpoint(prompt)
        if checkpoint is None:
            return 0
        n = len(checkpoint.tokens)
        self._context.truncate(n, self.number)
        restored = self._context.restore_window(checkpoint.state, self.number)
        return n if restored and self._context.can_branch(n, self.number) else 0
