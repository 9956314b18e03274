"""How many tokens of prompts are evaluated between two tokens of running answers."""

from __future__ import annotations

from typing import Final

PAUSE_S: Final = 0.3  # a choice: in which an answer may stand still
# llama.cpp's kernels compute up to 16 tokens at once, and what is left over almost one by one; and
# the weights are read for each piece, so that smaller ones would waste that.
_STEP_TOKENS: Final = 16
_MEASURED_TOKENS: Final = 8  # a choice: smaller batches say nothing of the speed of prompts


class PromptPacer:
    """Says how many tokens of prompts a batch may hold, for the scheduler."""

    def __init__(self, n_ubatch: int) -> None:
        """`n_ubatch`: as many as llama.cpp evaluates at once."""
        self._n_ubatch = n_ubatch
        self._tokens_per_s = 0.0

    def count_tokens(self, *, others_answer: bool) -> int:
        """Return the most tokens of prompts for the next batch.

        `others_answer`: whether there are answers that stand still meanwhile.
        """
        if not others_answer:
            return self._n_ubatch
        allowed = int(self._tokens_per_s * PAUSE_S) // _STEP_TOKENS * _STEP_TOKENS
        return min(max(_STEP_TOKENS, allowed), self._n_ubatch)

    def record_batch(self, n_tokens: int, seconds: float) -> None:
        """Learn from a batch with `n_tokens` tokens of prompts."""
        if n_tokens >= _MEASURED_TOKENS and seconds > 0:
            speed = n_tokens / seconds
            self._tokens_per_s = (self._tokens_per_s + speed) / 2 if self._tokens_per_s else speed
