"""The values that a conversation and a prompt consist of: messages, tool calls, media, parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for. `arguments` holds JSON values.

    It has no id, since Gemma's notation has none: results name the tool, in the calls' order.
    """

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Media:
    """An image or a sound that belongs to a user's message."""

    kind: Literal["image", "audio"]
    path: Path


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `thought` and `tool_calls` are the model's; `name`: the tool whose result it is.

    `tokens` are the ids that the model itself produced for `content`, if known.
    """

    role: Role
    content: str
    thought: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    media: tuple[Media, ...] = ()
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a prompt. Only in a `control` part, '<|turn>' is tokenized as a control token.

    Text from users is never in a control part: typing '<turn|>' does not end a turn. `tokens` are
    the token ids of the text, if known. A part with `media` becomes the positions of that image or
    sound; its `text` is only what the template writes there, '<|image|>'.
    """

    text: str
    control: bool = False
    tokens: tuple[int, ...] = ()
    media: Media | None = None
