"""Conversations as the tokens that a model reads, each up to the end of its last answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from g4cli.core.template_child import render_template
from g4cli.prompt.messages import Part
from g4cli.prompt.render import PromptStyle, render_thought
from g4cli.prompt.template import Renderer, choose_renderer
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.prompt_tokens import PromptTokens
from g4cli.runtime.measure.calibration_text import Conversation

_END_OF_TURN: Final = Part("<turn|>", control=True)


@dataclass(frozen=True, slots=True)
class Document:
    """Tokens of a conversation. Those from index `first` on are its last answer."""

    tokens: tuple[int, ...]
    first: int


def tokenize_conversations(
    model: Model, prompts: PromptTokens, conversations: Iterable[Conversation]
) -> list[Document]:
    """Return the tokens of each conversation, in the format of the model's chat template.

    An answer is the thought of the last message, its text, and the token that ends a turn: it calls
    no tools. Raises BadFile if the file's chat template cannot be used.
    """
    render = choose_renderer(model.chat_template, partial(render_template, path=model.path))
    return [_tokenize_conversation(prompts, render, conversation) for conversation in conversations]


def _tokenize_conversation(
    prompts: PromptTokens, render: Renderer, conversation: Conversation
) -> Document:
    *before, answer = conversation.messages
    tools = conversation.tools
    style = PromptStyle(think=bool(answer.thought), tools=tools, empty_thought=render.empty_thought)
    prompt = prompts.tokens_of(render(before, style))
    parts = [*render_thought(answer.thought), Part(answer.content), _END_OF_TURN]
    scored = prompts.tokens_of(parts, with_bos=False)
    return Document(tuple(prompt + scored), len(prompt))
