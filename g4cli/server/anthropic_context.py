"""What a request to Anthropic's Messages API leaves out of a long conversation.

Source: the types BetaClearThinking20251015EditParam and its kin of the `anthropic` package 2.14.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from g4cli.server.wire_model import WireModel


class ThinkingTurns(WireModel):
    """How many of the last answers keep their thoughts."""

    type: Literal["thinking_turns"]
    value: int = Field(ge=1)


class ClearThinking(WireModel):
    """Which thoughts of earlier answers are left out."""

    type: Literal["clear_thinking_20251015"]
    keep: Literal["all"] | ThinkingTurns | None = None


class ContextManagement(WireModel):
    """What is left out of a long conversation. Anthropic's clear_tool_uses is refused."""

    edits: list[ClearThinking] = Field(default=[], max_length=16)  # a choice: one is enough
