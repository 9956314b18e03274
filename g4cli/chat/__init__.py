"""A conversation and its turns, without a terminal and without llama.cpp.

turn           one prompt in, events out
answer         the state of one answer, token by token
conversation   the messages so far: undo, edit, save, load, what to drop when the context is full
"""

from g4cli.chat.answer import Answer
from g4cli.chat.conversation import Conversation, OverflowPolicy, fit_prompt
from g4cli.chat.events import (
    Evaluated,
    Finished,
    FoundLoop,
    LoopNoticed,
    OnLoop,
    PromptRead,
    Reply,
    TurnEvent,
    TurnOptions,
)
from g4cli.chat.turn import run_turn

__all__ = [
    "Answer",
    "Conversation",
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
    "fit_prompt",
    "run_turn",
]
