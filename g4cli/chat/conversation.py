"""The messages of a chat: add, undo, save and load them, and drop the oldest if they do not fit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from g4cli.core.errors import BadFile, ContextFull
from g4cli.core.json_schema import is_nested_deeper
from g4cli.prompt.messages import Media, Message, Role, ToolCall
from g4cli.prompt.tools import MAX_DEPTH

OverflowPolicy: TypeAlias = Literal["drop", "error"]
FORMAT: Final = "g4-chat"
VERSION: Final = 1
# Room that a prompt must leave for the answer: a quarter of the context, 1,024 tokens at most. A
# choice: most answers have less. Where the last question alone has more, one token is enough.
_ANSWER_SHARE: Final = 4
_ANSWER_TOKENS: Final = 1024


@dataclass(slots=True)
class Conversation:
    """Turns in order, and the system prompt, which can change at any time.

    `n_dropped` is how many of the oldest turns are no longer part of the prompt. `stored_id` is the
    id of the conversation in the database of conversations, None until it is saved, and `stored`
    are its turns there with their ids: where they differ from `turns`, something is to be saved.
    """

    system: str = ""
    turns: list[Message] = field(default_factory=list)
    n_dropped: int = field(default=0, compare=False)
    stored_id: int | None = field(default=None, compare=False)
    stored: list[tuple[int, Message]] = field(default_factory=list, compare=False)

    def messages(self) -> list[Message]:
        """Return the messages that the prompt is rendered from."""
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
        """Remove the last question and its answer; return the question, or None without one."""
        while self.turns:
            message = self.turns.pop()
            self.n_dropped = min(self.n_dropped, len(self.turns))
            if message.role == "user":
                return message
        return None

    def drop_oldest_until(self, fits: Callable[[Sequence[Message]], bool]) -> None:
        """Drop as few of the oldest questions, with their answers, as make `fits` true of the rest.

        The last question stays, whether it fits or not. The search goes back from the newest
        question in steps that double, then halves the last step. So the messages given to `fits`
        are in all a few times what fits, however long the conversation is.
        """
        starts = [i for i, turn in enumerate(self.turns) if turn.role == "user"]
        starts = [i for i in starts if i > self.n_dropped] or starts[-1:]
        if not starts:
            return
        n_kept, step = 1, 1  # questions
        while n_kept + step <= len(starts) and fits(self._messages_from(starts[-n_kept - step])):
            n_kept += step
            step *= 2
        while step > 1:
            step //= 2
            if n_kept + step <= len(starts) and fits(self._messages_from(starts[-n_kept - step])):
                n_kept += step
        self.n_dropped = max(self.n_dropped, starts[-n_kept])

    def to_text(self) -> str:
        """Return the conversation as JSON; `from_text` reads it."""
        data = {
            "format": FORMAT,
            "version": VERSION,
            "system": self.system,
            "messages": [message_to_json(turn) for turn in self.turns],
        }
        return json.dumps(data, ensure_ascii=False, indent=1)

    @classmethod
    def from_text(cls, text: str) -> Conversation:
        """Return the conversation saved as `text`. Raises BadFile if it is not one."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            data = None
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise BadFile("not a chat saved by g4", hint="save one in a chat: /save FILE")
        if data.get("version") != VERSION:
            raise BadFile(
                f"the saved chat has format version {data.get('version')!r}; "
                f"this version of g4 reads {VERSION}"
            )
        try:
            turns = [parse_message(item) for item in data["messages"]]
            return cls(_read_text(data, "system"), turns)
        except (KeyError, TypeError, ValueError, AttributeError) as err:
            raise BadFile(f"the saved chat is damaged: {err}") from err


def is_saved_chat(text: str) -> bool:
    """Return whether `text` begins as Conversation.to_text does, whole or not."""
    return re.match(rf'\s*\{{\s*"format"\s*:\s*"{FORMAT}"', text) is not None


@dataclass(frozen=True, slots=True)
class Fitted:
    """The tokens of a prompt that fits, and how many turns were dropped for it."""

    tokens: tuple[int, ...]
    dropped_turns: int = 0


def fit_prompt(
    conversation: Conversation,
    tokens_of: Callable[[Sequence[Message]], Sequence[int]],
    *,
    n_ctx: int,
    policy: OverflowPolicy,
    n_ctx_train: int = 0,
) -> Fitted:
    """Return the prompt's tokens, few enough to leave room for an answer.

    `tokens_of` renders and tokenizes messages; `n_ctx` is the size of the context. With the policy
    "drop", a prompt that is too long loses its oldest turns until it fills at most half of the
    context. Dropping one turn at each question instead would change the start of every prompt, and
    all of it would be evaluated again each time. `n_ctx_train` is the context that the model was
    trained for (0: unknown), used in the hint. Raises ContextFull with the policy "error", or if
    the last question alone is too long.
    """
    tokens = tokens_of(conversation.messages())
    room = _count_room(n_ctx)
    if len(tokens) <= room:
        return Fitted(tuple(tokens))
    if policy == "error":
        raise ContextFull(
            f"the conversation has {len(tokens):,} tokens; "
            f"it may fill {room:,} of the context of {n_ctx:,}",
            hint=_suggest_context(len(tokens), n_ctx, n_ctx_train, _count_room(n_ctx_train))
            + ", or --on-overflow drop",
        )
    before = conversation.n_dropped
    conversation.drop_oldest_until(lambda messages: len(tokens_of(messages)) <= n_ctx // 2)
    tokens = tokens_of(conversation.messages())
    if len(tokens) >= n_ctx:
        raise ContextFull(
            f"the question alone has {len(tokens):,} tokens; the context holds {n_ctx:,}",
            hint=_suggest_context(len(tokens), n_ctx, n_ctx_train, n_ctx_train - 1),
        )
    return Fitted(tuple(tokens), conversation.n_dropped - before)


def _count_room(n_ctx: int) -> int:
    """Return how many tokens a prompt may have, so that an answer has room behind it."""
    return n_ctx - min(_ANSWER_TOKENS, n_ctx // _ANSWER_SHARE)


def _suggest_context(n_tokens: int, n_ctx: int, n_ctx_train: int, most_tokens: int) -> str:
    """Return the hint for a prompt of `n_tokens`: an option, or that this model takes no more.

    `most_tokens` is what a prompt may have in the largest context, that of `n_ctx_train`.
    """
    wanted = n_tokens + _ANSWER_TOKENS
    if n_ctx_train and wanted > n_ctx_train:
        larger = "--ctx max, or " if n_ctx < n_ctx_train and n_tokens <= most_tokens else ""
        return f"{larger}a shorter prompt: this model takes at most {n_ctx_train:,} tokens"
    return f"--ctx {wanted}"


def message_to_json(message: Message) -> dict[str, Any]:
    """Return `message` as the mapping that a saved chat holds (`Message.tokens` is not saved)."""
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


def parse_message(data: Mapping[str, Any]) -> Message:
    """Return the message of a saved chat.

    Raises KeyError, TypeError, ValueError or AttributeError if it is not one.
    """
    if not isinstance(data["content"], str):
        raise TypeError("the content of a message is not text")
    return Message(
        _ROLES[data["role"]],
        data["content"],
        thought=_read_text(data, "thought"),
        tool_calls=tuple(map(_parse_call, data.get("tool_calls", ()))),
        name=_read_text(data, "name"),
        media=tuple(Media(_KINDS[m["kind"]], Path(m["path"])) for m in data.get("media", ())),
    )


def _read_text(data: Mapping[str, Any], key: str) -> str:
    """Return a text, "" for null or where there is none. Raises TypeError."""
    text = data.get(key)
    if not isinstance(text, str | None):
        raise TypeError(f"{key} is not text")
    return text or ""


def _parse_call(data: Mapping[str, Any]) -> ToolCall:
    """Return a tool call. Raises as parse_message."""
    arguments = data["arguments"]
    if not isinstance(arguments, dict):
        raise TypeError("the arguments of a tool call are not an object")
    if is_nested_deeper(arguments, MAX_DEPTH):
        raise ValueError("the arguments of a tool call are nested too deeply")
    if not isinstance(data["name"], str):
        raise TypeError("the name of a tool is not text")
    return ToolCall(data["name"], arguments)
