"""A conversation, its turns and what answers consist of, without a terminal or llama.cpp."""

from g4cli.chat.answer import Answer
from g4cli.chat.conversation import Conversation, OverflowPolicy, fit_prompt
from g4cli.chat.events import (
    DraftStats,
    Evaluated,
    Finished,
    FoundLoop,
    LoopNoticed,
    OnLoop,
    PromptRead,
    Reply,
    TurnEvent,
    TurnOptions,
    View,
)
from g4cli.chat.turn import run_turn

__all__ = [
    "Answer",
    "Conversation",
    "DraftStats",
    "Evaluated",
    "Finished",
    "FoundLoop",
    "LoopNoticed",
    "OnLoop",
    "OverflowPolicy",
    "PromptRead",
    "Reply",
    "TurnEvent",
    "TurnOptions",
    "View",
    "fit_prompt",
    "run_turn",
]
