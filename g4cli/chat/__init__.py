"""A conversation and its turns, without a terminal and without llama.cpp.

turn           one prompt in, events out
conversation   the messages so far: undo, edit, save, load, what to drop when the context is full
"""

from g4cli.chat.conversation import Conversation, Fitted, OverflowPolicy, fit_prompt
from g4cli.chat.turn import (
    Decoder,
    Engine,
    Evaluated,
    Finished,
    FoundLoop,
    PromptRead,
    Reply,
    TurnEvent,
    TurnOptions,
    run_turn,
)

__all__ = [
    "Conversation",
    "Decoder",
    "Engine",
    "Evaluated",
    "Finished",
    "Fitted",
    "FoundLoop",
    "OverflowPolicy",
    "PromptRead",
    "Reply",
    "TurnEvent",
    "TurnOptions",
    "fit_prompt",
    "run_turn",
]
