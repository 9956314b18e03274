"""How many tokens of prompts share a batch with running answers."""

from __future__ import annotations

from typing import Final

PAUSE_S: Final = 0.2
_LEAST_TOKENS: Final = 16  # of a prompt in a batch: fewer would waste the weights that are read
_MEASURED_TOKENS: Final = 8  # batches with fewer tokens of prompts say nothing of their speed


class PromptPacer:
    """Says how many tokens of prompts a batch may hold."""

    def __init__(self, n_ubatch: int) -> None:
        """`n_ubatch`: as many as llama.cpp evaluates at once."""
        self._n_ubatch = n_ubatch
        self._tokens_per_s = 0.0

    def count_tokens(self, *, others_answer: bool) -> int:
        """Return the most tokens of prompts for the next batch."""
        if not others_answer:
            return self._n_ubatch
        allowed = int(self._tokens_per_s * PAUSE_S)
        return max(_LEAST_TOKENS, min(self._n_ubatch, allowed))

    def record_batch(self, n_tokens: int, seconds: float) -> None:
        """Learn from a batch with `n_tokens` tokens of prompts."""
        if n_tokens >= _MEASURED_TOKENS and seconds > 0:
            speed = n_tokens / seconds
            self._tokens_per_s = (self._tokens_per_s + speed) / 2 if self._tokens_per_s else speed
