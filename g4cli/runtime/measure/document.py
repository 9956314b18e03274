"""Conversations as the tokens that a model reads, each up to the end of its last answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from g4cli.core.template_child import render_template
from g4cli.prompt import PromptStyle, Renderer, choose_renderer
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.prompt_tokens import PromptTokens
from g4cli.runtime.measure.calibration_text import Conversation

_END_OF_TURN: Final = "<turn|>"
_THOUGHT_TAGS: Final = ("<|channel>thought\n", "\n<channel|>")


@dataclass(frozen=True, slots=True)
class Document:
    """Tokens of a conversation. Those from index `first` on are its last answer."""

    tokens: tuple[int, ...]
    first: int


def tokenize_conversations(
    model: Model, prompts: PromptTokens, conversations: Iterable[Conversation]
) -> list[Document]:
    """Return the tokens of each conversation, in the format of the model's chat template.

    An answer is the thought of the last message, its text, and the token that ends a turn. Raises
    BadFile if the file's chat template cannot be used.
    """
    render = choose_renderer(model.chat_template, partial(render_template, path=model.path))
    return [
        _tokenize_conversation(model, prompts, render, conversation)
        for conversation in conversations
    ]


def _tokenize_conversation(
    model: Model, prompts: PromptTokens, render: Renderer, conversation: Conversation
) -> Document:
    *before, answer = conversation.messages
    tools = conversation.tools
    style = PromptStyle(think=bool(answer.thought), tools=tools, empty_thought=render.empty_thought)
    prompt = prompts.tokens_of(render(before, style))
    scored: list[int] = []
    if answer.thought:
        start, end = (model.tokenize(tag, control=True) for tag in _THOUGHT_TAGS)
        scored += start + model.tokenize(answer.thought, control=False) + end
    scored += model.tokenize(answer.content, control=False)
    scored += model.tokenize(_END_OF_TURN, control=True)
    return Document(tuple(prompt + scored), len(prompt))
