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
# Room for the answer that a prompt must leave, as a share of the context, and at most so many tokens.
_ANSWER_SHARE: Final = 4
_ANSWER_TOKENS: Final = 1024


@dataclass(slots=True)
class Conversation:
    """Turns in order; the system text apart, because it can change at any time."""

    system: str = ""
    turns: list[Message] = field(default_factory=list)

    def messages(self) -> list[Message]:
        """Return what the prompt is rendered from."""
        return ([Message("system", self.system)] if self.system else []) + self.turns

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
            if message.role == "user":
                return message
        return None

    def clear(self) -> None:
        """Forget all turns; the system text stays."""
        self.turns.clear()

    def drop_oldest(self) -> int:
        """Forget the oldest question with all that answers it; return how many turns that were.

        The last question stays: 0 means that nothing is left to forget.
        """
        later = [i for i, turn in enumerate(self.turns) if turn.role == "user" and i > 0]
        if not later:
            return 0
        del self.turns[: later[0]]
        return later[0]

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
            return cls(str(data.get("system", "")), [_message(item) for item in data["messages"]])
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
) -> Fitted:
    """Return the prompt's tokens with room left for an answer.

    With 'drop' the oldest turns leave `conversation` until a prompt that was too long fills at most half of
    the context: dropping one turn at each question would evaluate everything again each time. Raises
    ContextFull with 'error', or if the last question alone is too long.
    """
    tokens = tokens_of(conversation.messages())
    room = n_ctx - min(_ANSWER_TOKENS, n_ctx // _ANSWER_SHARE)
    if len(tokens) <= room:
        return Fitted(tuple(tokens))
    if policy == "error":
        raise ContextFull(
            f"the conversation has {len(tokens):,} tokens; of a context of {n_ctx:,} it may take {room:,}",
            hint=f"--ctx {n_ctx * 2}, or /clear, or --on-overflow drop",
        )
    dropped = 0
    while len(tokens) > n_ctx // 2:
        step = conversation.drop_oldest()
        if not step:
            break
        dropped += step
        tokens = tokens_of(conversation.messages())
    if len(tokens) >= n_ctx:
        raise ContextFull(
            f"the question alone has {len(tokens):,} tokens, the context holds {n_ctx:,}",
            hint=f"--ctx {len(tokens) + _ANSWER_TOKENS}",
        )
    return Fitted(tuple(tokens), dropped)


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


def _message(data: Mapping[str, Any]) -> Message:
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
