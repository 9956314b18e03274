"""A conversation as the tokens that a model reads, up to the end of its last answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from g4cli.prompt import Message, PromptStyle, Renderer
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.prompt_tokens import PromptTokens

_END_OF_TURN: Final = "<turn|>"
_THOUGHT_TAGS: Final = ("<|channel>thought\n", "\n<channel|>")


@dataclass(frozen=True, slots=True)
class Document:
    """Tokens of a conversation. Those from index `first` on are its last answer."""

    tokens: tuple[int, ...]
    first: int


def tokenize_conversation(
    model: Model,
    prompts: PromptTokens,
    render: Renderer,
    conversation: Sequence[Message],
    tools: tuple[Mapping[str, Any], ...] = (),
) -> Document:
    """Return the tokens of a conversation that ends with an answer, and where that begins.

    The answer is the thought of the last message, its text, and the token that ends a turn. Raises
    BadFile if the file's chat template cannot be used.
    """
    answer = conversation[-1]
    style = PromptStyle(think=bool(answer.thought), tools=tools, empty_thought=render.empty_thought)
    prompt = prompts.tokens_of(render(conversation[:-1], style))
    scored: list[int] = []
    if answer.thought:
        start, end = (model.tokenize(tag, control=True) for tag in _THOUGHT_TAGS)
        scored += start + model.tokenize(answer.thought, control=False) + end
    scored += model.tokenize(answer.content, control=False)
    scored += model.tokenize(_END_OF_TURN, control=True)
    return Document(tuple(prompt + scored), len(prompt))
