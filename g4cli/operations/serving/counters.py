"""What a server has done since it started, as /metrics tells it."""

from __future__ import annotations

from dataclasses import dataclass

from g4cli.chat import Reply


@dataclass(slots=True)
class Counters:
    """Sums over all answers. Prompt tokens are those that were evaluated; times are in seconds."""

    prompt_tokens: int = 0
    prompt_s: float = 0.0
    reused_tokens: int = 0
    predicted_tokens: int = 0
    predicted_s: float = 0.0
    answers: int = 0
    loops: int = 0

    def add_reply(self, reply: Reply) -> None:
        """Count a finished answer."""
        self.prompt_tokens += reply.evaluated_tokens
        self.prompt_s += reply.prompt_s
        self.reused_tokens += reply.reused_tokens
        self.predicted_tokens += reply.completion_tokens
        self.predicted_s += reply.decode_s
        self.answers += 1
        self.loops += reply.loop is not None
