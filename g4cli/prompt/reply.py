"""Split a streamed answer into text, thoughts and tool calls, one token's text at a time.

    <|channel>thought\n ... <channel|> answer <|tool_call>call:NAME{...}<tool_call|>

A control token always arrives as a piece of its own. An answer that spells '<|channel>' in ordinary
letters, such as a quotation, is therefore plain text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final, TypeAlias

from g4cli.prompt.messages import ToolCall
from g4cli.prompt.tools import parse_call

CHANNEL_OPEN: Final = "<|channel>"
CHANNEL_CLOSE: Final = "<channel|>"
CALL_OPEN: Final = "<|tool_call>"
CALL_CLOSE: Final = "<tool_call|>"
# The texts of the control tokens that the parser acts on, as bytes.
MARKS: Final = frozenset(t.encode() for t in (CHANNEL_OPEN, CHANNEL_CLOSE, CALL_OPEN, CALL_CLOSE))
# The name of a channel ("thought") has at most this many characters, a choice. What follows
# '<|channel>' without a newline is a thought too.
_NAME_LIMIT: Final = 32
_MIN_LOGPROB: Final = -9999.0


@dataclass(frozen=True, slots=True)
class TokenProbability:
    """A token, its bytes, and the natural logarithm of its probability."""

    id: int
    piece: bytes
    logprob: float

    @property
    def text(self) -> str:
        """Return the bytes as text; half a character becomes U+FFFD."""
        return self.piece.decode("utf-8", "replace")

    @property
    def finite_logprob(self) -> float:
        """Return the logarithm, for JSON, which has no infinity: at least -9999, as OpenAI."""
        return max(self.logprob, _MIN_LOGPROB)

    def as_json(self) -> dict[str, Any]:
        """Return the token with its log-probability, as OpenAI and Ollama have it."""
        return {"token": self.text, "logprob": self.finite_logprob, "bytes": list(self.piece)}


@dataclass(frozen=True, slots=True)
class SampledToken(TokenProbability):
    """A token of an answer, and the most probable tokens there, best first."""

    top: tuple[TokenProbability, ...] = ()


def tokens_to_json(tokens: Sequence[SampledToken]) -> list[dict[str, Any]]:
    """Return tokens with their natural log-probabilities in the form of OpenAI's API.

    The `id` that each has besides is that of llama-server's completions, for their clients.
    """
    return [
        {
            **token.as_json(),
            "id": token.id,
            "top_logprobs": [{**other.as_json(), "id": other.id} for other in token.top],
        }
        for token in tokens
    ]


@dataclass(frozen=True, slots=True)
class AnswerText:
    """A piece of the answer; `tokens` that end in it, where probabilities were asked for."""

    text: str
    tokens: tuple[SampledToken, ...] = ()


@dataclass(frozen=True, slots=True)
class ThoughtText:
    """A piece of the thinking channel; `tokens` as in AnswerText."""

    text: str
    tokens: tuple[SampledToken, ...] = ()


@dataclass(frozen=True, slots=True)
class ThoughtEnded:
    """The thinking channel closed."""


@dataclass(frozen=True, slots=True)
class CallMade:
    """The model asks for a tool."""

    call: ToolCall


ReplyEvent: TypeAlias = AnswerText | ThoughtText | ThoughtEnded | CallMade


class _Place(Enum):
    """Where in an answer the parser is; NAME is that of a channel."""

    ANSWER = auto()
    NAME = auto()
    THOUGHT = auto()
    CALL = auto()


class ReplyParser:
    """Turns token texts into events."""

    def __init__(self) -> None:
        self._place = _Place.ANSWER
        self._held = ""  # the text of a call or a name that is not complete

    @property
    def in_thought(self) -> bool:
        """Whether the model is thinking."""
        return self._place in (_Place.NAME, _Place.THOUGHT)

    def feed(self, piece: str) -> list[ReplyEvent]:
        """Return the events that the text of one token completes."""
        if self._place is _Place.CALL:
            return self._feed_call(piece)
        if piece == CHANNEL_OPEN:
            self._place, self._held = _Place.NAME, ""
            return []
        if piece == CHANNEL_CLOSE:
            return self._close_thought()
        if piece == CALL_OPEN:
            events = self._close_thought() if self.in_thought else []
            self._place, self._held = _Place.CALL, ""
            return events
        if self._place is _Place.NAME:
            return self._feed_name(piece)
        if not piece:
            return []
        return [ThoughtText(piece) if self._place is _Place.THOUGHT else AnswerText(piece)]

    def finish(self, *, is_cut: bool = False) -> list[ReplyEvent]:
        """Return the events of an answer that ends inside a call or the name of a channel.

        `is_cut`: the model had not ended it. A call that is not whole is then left out.
        """
        held, self._held = self._held, ""
        if self._place is _Place.CALL and held:
            return [] if is_cut and parse_call(held) is None else self._parse_call(held)
        # What ends within its name or right behind it, without a newline, has no text.
        is_name = "thought".startswith(held.strip())
        return [ThoughtText(held)] if self._place is _Place.NAME and not is_name else []

    def _feed_name(self, piece: str) -> list[ReplyEvent]:
        """Return the events of a piece after '<|channel>', which may still be the name."""
        self._held += piece
        name, newline, after = self._held.partition("\n")
        if not newline and len(name) <= _NAME_LIMIT:
            return []
        self._place, self._held = _Place.THOUGHT, ""
        # A first line with a blank is no name, but the beginning of the thought.
        text = after if newline and " " not in name else name + newline + after
        return [ThoughtText(text)] if text else []

    def _close_thought(self) -> list[ReplyEvent]:
        """Return the events of the end of a thought, by its mark or by a call."""
        was_open = self.in_thought
        events = self.finish()
        self._place, self._held = _Place.ANSWER, ""
        return [*events, ThoughtEnded()] if was_open else events

    def _feed_call(self, piece: str) -> list[ReplyEvent]:
        if piece != CALL_CLOSE:
            self._held += piece
            return []
        text, self._held, self._place = self._held, "", _Place.ANSWER
        return self._parse_call(text)

    def _parse_call(self, text: str) -> list[ReplyEvent]:
        call = parse_call(text)
        # A malformed call that the model has ended is shown as text, so that nothing is lost.
        return [CallMade(call) if call else AnswerText(text)]
