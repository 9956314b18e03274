"""The messages of a chat: what was said, what to take back, what to keep on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from g4cli.core.errors import BadFile, ContextFull
from g4cli.prompt.messages import Media, Message, Role, ToolCall

OverflowPolicy: TypeAlias = Literal["drop", "error"]
FORMAT: Final = "g4-chat"
VERSION: Final = 1
# Room for the answer that a prompt must leave, as a share of the context, and at most so many
# tokens.
_ANSWER_SHARE: Final = 4
_ANSWER_TOKENS: Final = 1024
_SHORTER: Final = "a shorter prompt"


@dataclass(slots=True)
class Conversation:
    """Turns in order; the system text apart, because it can change at any time.

    `n_dropped`: how many of the oldest turns the model does not see any more. `name`: what the
    conversation is kept under, empty until it is kept.
    """

    system: str = ""
    turns: list[Message] = field(default_factory=list)
    n_dropped: int = field(default=0, compare=False)
    name: str = field(default="", compare=False)

    def messages(self) -> list[Message]:
        """Return what the prompt is rendered from."""
        return self._messages_from(self.n_dropped)

    def _messages_from(self, first: int) -> list[Message]:
        return ([Message("system", self.system)] if self.system else []) + self.turns[first:]

    def ask(self, text: str, media: Sequence[Media] = ()) -> None:
        """Append the user's turn."""
        self.turns.append(Message("user", text, media=tuple(media)))

    def answer(self, message: Message) -> None:
        """Append the model's turn."""
        self.turns.append(message)

    def undo(self) -> Message | None:
        """Take the last question and its answer back; return the question, or None if there is none."""
        while self.turns:
            message = self.turns.pop()
            self.n_dropped = min(self.n_dropped, len(self.turns))
            if message.role == "user":
                return message
        return None

    def drop_oldest_until(self, fits: Callable[[Sequence[Message]], bool]) -> None:
        """Hide as few of the oldest questions, with all that answers them, as let `fits` be true of the rest.

        The last question stays, whether it fits or not. What `fits` is asked about is in all a few
        times what fits, however long the conversation: from the newest question backwards in steps
        that double, then between the last two of them.
        """
        starts = [i for i, turn in enumerate(self.turns) if turn.role == "user"]
        starts = [i for i in starts if i > self.n_dropped] or starts[-1:]
        if not starts:
            return
        kept, step = 1, 1  # questions kept
        while kept + step <= len(starts) and fits(self._messages_from(starts[-kept - step])):
            kept += step
            step *= 2
        while step > 1:
            step //= 2
            if kept + step <= len(starts) and fits(self._messages_from(starts[-kept - step])):
                kept += step
        self.n_dropped = max(self.n_dropped, starts[-kept])

    def to_text(self) -> str:
        """Return the conversation as JSON; `from_text` reads it."""
        data = {
            "format": FORMAT,
            "version": VERSION,
            "system": self.system,
            "messages": [_message_json(turn) for turn in self.turns],
        }
        return json.dumps(data, ensure_ascii=False, indent=1)

    @classmethod
    def from_text(cls, text: str) -> Conversation:
        """Return the saved conversation. Raises BadFile if `text` is none."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise BadFile("this is no chat that g4 saved", hint="write one with /save FILE")
        if data.get("version") != VERSION:
            raise BadFile(f"the chat has version {data.get('version')!r}, this g4 reads {VERSION}")
        try:
            return cls(
                str(data.get("system", "")), [_parse_message(item) for item in data["messages"]]
            )
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise BadFile(f"the saved chat is damaged: {err}") from err


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that fits, and how many turns were dropped for it."""

    tokens: tuple[int, ...]
    dropped_turns: int = 0


def fit_prompt(
    conversation: Conversation,
    tokens_of: Callable[[Sequence[Message]], Sequence[int]],
    *,
    n_ctx: int,
    policy: OverflowPolicy,
    n_ctx_most: int = 0,
) -> Fitted:
    """Return the prompt's tokens with room left for an answer.

    With 'drop' the oldest turns are hidden from the model until a prompt that was too long fills at
    most half of the context: dropping one turn at each question would evaluate everything again
    each time. `n_ctx_most` is the context that the model was made for, for the hint. Raises
    ContextFull with 'error', or if the last question alone is too long.
    """
    tokens = tokens_of(conversation.messages())
    room = n_ctx - min(_ANSWER_TOKENS, n_ctx // _ANSWER_SHARE)
    if len(tokens) <= room:
        return Fitted(tuple(tokens))
    if policy == "error":
        raise ContextFull(
            f"the conversation has {len(tokens):,} tokens; of a context of {n_ctx:,} it may take {room:,}",
            hint=_more_context(len(tokens), n_ctx, n_ctx_most) + ", or --on-overflow drop",
        )
    before = conversation.n_dropped
    conversation.drop_oldest_until(lambda messages: len(tokens_of(messages)) <= n_ctx // 2)
    tokens = tokens_of(conversation.messages())
    if len(tokens) >= n_ctx:
        raise ContextFull(
            f"the question alone has {len(tokens):,} tokens, the context holds {n_ctx:,}",
            hint=_more_context(len(tokens), n_ctx, n_ctx_most),
        )
    return Fitted(tuple(tokens), conversation.n_dropped - before)


def _more_context(n_tokens: int, n_ctx: int, n_ctx_most: int) -> str:
    """Return how to get room for `n_tokens`, or that no context of this model has it."""
    wanted = n_tokens + _ANSWER_TOKENS
    if n_ctx_most and wanted > n_ctx_most:
        larger = f"--ctx max, or {_SHORTER}" if n_ctx < n_ctx_most else _SHORTER
        return f"{larger}: this model takes {n_ctx_most:,} tokens at most"
    return f"--ctx {wanted}"


def _message_json(message: Message) -> dict[str, Any]:
    data: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.thought:
        data["thought"] = message.thought
    if message.tool_calls:
        data["tool_calls"] = [
            {"name": c.name, "arguments": dict(c.arguments)} for c in message.tool_calls
        ]
    if message.name:
        data["name"] = message.name
    if message.media:
        data["media"] = [{"kind": item.kind, "path": str(item.path)} for item in message.media]
    return data


_ROLES: Final[Mapping[str, Role]] = {"user": "user", "assistant": "assistant", "tool": "tool"}
_KINDS: Final[Mapping[str, Literal["image", "audio"]]] = {"image": "image", "audio": "audio"}


def _parse_message(data: Mapping[str, Any]) -> Message:
    if not isinstance(data["content"], str):
        raise TypeError("a message's content is no text")
    return Message(
        _ROLES[data["role"]],
        data["content"],
        thought=str(data.get("thought", "")),
        tool_calls=tuple(
            ToolCall(str(c["name"]), dict(c["arguments"])) for c in data.get("tool_calls", ())
        ),
        name=str(data.get("name", "")),
        media=tuple(Media(_KINDS[m["kind"]], Path(m["path"])) for m in data.get("media", ())),
    )
