"""What a conversation is made of. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks for. `arguments` holds JSON values."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Media:
    """An image or a sound that belongs to a user's message."""

    kind: Literal["image", "audio"]
    path: Path


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `tokens` are the ids that the model itself produced for `content`, if known."""

    role: Role
    content: str
    thought: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    media: tuple[Media, ...] = ()
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a prompt. In a `control` part '<|turn>' is the control token; elsewhere it is just text.

    User text is never in a control part: nobody can end a turn by typing its end mark.
    """

    text: str
    control: bool = False
    tokens: tuple[int, ...] = ()
    media: Media | None = None
