"""The prompts of the experiments on a loop: formats, thinking, tools, text before the question."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from g4cli.core.errors import BadFile
from g4cli.core.file_kind import TEXT
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_values import find_data
from g4cli.core.template_child import TEMPLATE_KEY, TEMPLATE_LIMIT
from g4cli.doctor.loop.search import LoopChoices
from g4cli.doctor.loop.settings import CONTEXTS, LoopSettings
from g4cli.doctor.probe.any_model import render_cases, token_text
from g4cli.doctor.reference import EMPTY_THOUGHT_MODELS, TOKENIZER
from g4cli.prompt.messages import Message, Part
from g4cli.prompt.render import PromptStyle, render

DEFAULT_QUESTION: Final = "Tell me a short story about a lighthouse, then explain what it is for."
SCHEMA: Final = (
    '{"type": "object", "properties": {"title": {"type": "string"}, "text": {"type": "string"}}, '
    '"required": ["title", "text"], "additionalProperties": false}'
)
"""Of the answers of experiments with a JSON schema: long strings, where loops were reported."""
_TOOL: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "type": "function",
        "function": {
            "name": "look_up",
            "description": "Look a word up in the encyclopedia.",
            "parameters": {
                "type": "object",
                "properties": {"word": {"type": "string", "description": "The word."}},
                "required": ["word"],
            },
        },
    }
)
# tokenizer.ggml.model of vocabularies that begin a text with BOS unless the file says otherwise
# (llama-vocab.cpp).
_WITH_BOS: Final = "llama"
# Tokens that a prompt may have besides those of its bytes: BOS, and the blank that some
# vocabularies put in front of each part.
_MORE_TOKENS: Final = 64


@dataclass(frozen=True, slots=True)
class PromptWriter:
    """Writes the prompts for one file.

    `template` is the file's, None if it has none that works. `bos` is the text of the token that
    begins a prompt, "" if this file needs none. `empty_thought`: the model expects one at the start
    of an answer without thinking.
    """

    header: Header
    question: str
    template: str | None
    bos: str = "<bos>"
    empty_thought: bool = False

    @property
    def is_gemma4(self) -> bool:
        """Whether the model is a Gemma 4, whose turns g4 writes itself."""
        return self.header.architecture == TEXT

    def write(self, settings: LoopSettings, text: str = "") -> list[Part]:
        """Return the parts of a prompt: `text`, then the question, without the BOS token.

        Whoever runs the experiment adds the BOS token if its settings have one.
        The own format of a Gemma 4 is what g4 writes, the other one its template. For other models
        it is the template, the other one plain text. Raises BadFile if the file's template fails.
        """
        content = f"{text}\n\n{self.question}" if text else self.question
        if self.is_gemma4 and settings.own_format:
            style = PromptStyle(
                think=settings.thinking,
                tools=(_TOOL,) if settings.tools else (),
                empty_thought=self.empty_thought,
            )
            first, *rest = render([Message("user", content)], style)
            return [replace(first, text=first.text.removeprefix("<bos>")), *rest]
        if self.template is None or not (self.is_gemma4 or settings.own_format):
            return [Part(content)]
        return [Part(self._fill_template(settings, content).removeprefix(self.bos), control=True)]

    def _fill_template(self, settings: LoopSettings, content: str) -> str:
        assert self.template is not None
        case = {
            "messages": [{"role": "user", "content": content}],
            "enable_thinking": settings.thinking,
            "tools": [dict(_TOOL)] if settings.tools else None,
        }
        return render_cases(self.template, self.header, [case])[0]

    def list_choices(self, n_ctx: int, n_answer: int, gpus: tuple[str, ...]) -> LoopChoices:
        """Return what can be varied, in a context of `n_ctx` tokens with `n_answer` of an answer.

        Factors that do not change the prompt of this file, or that its template refuses, are left
        out.
        """
        first = self.write(LoopSettings())

        def changes_prompt(settings: LoopSettings) -> bool:
            with suppress(BadFile):
                return _join_text(self.write(settings)) != _join_text(first)
            return False

        return LoopChoices(
            most_context=min(CONTEXTS[-1], n_ctx - n_answer - _count_at_most(first)),
            has_bos=bool(self.bos),
            thinks=changes_prompt(LoopSettings(thinking=True)),
            takes_tools=changes_prompt(LoopSettings(tools=True)),
            other_format=changes_prompt(LoopSettings(own_format=False)),
            gpus=gpus,
        )


def make_writer(header: Header, model_name: str, question: str) -> PromptWriter:
    """Return what writes the prompts for a file; `model_name` is g4's, "" for an unknown model."""
    text = find_data(header.keys, TEMPLATE_KEY, str)
    writer = PromptWriter(
        header,
        question,
        text if text is not None and len(text) <= TEMPLATE_LIMIT else None,
        empty_thought=model_name in EMPTY_THOUGHT_MODELS,
    )
    begins = ""  # what the template writes, tried here to find out whether it works
    if writer.template is not None:
        try:
            (part,) = writer.write(LoopSettings(own_format=not writer.is_gemma4))
            begins = part.text
        except BadFile:
            writer = replace(writer, template=None)
    if writer.is_gemma4:
        return writer
    bos = token_text(header, "bos_token_id")
    return replace(writer, bos=bos if _adds_bos(header) or (bos and begins.startswith(bos)) else "")


def _adds_bos(header: Header) -> bool:
    """Return whether programs put the BOS token in front of a text."""
    added = header.keys.get(f"{TOKENIZER}add_bos_token")
    if added is not None:
        return added.data is True
    return find_data(header.keys, f"{TOKENIZER}model", str) == _WITH_BOS


def _join_text(parts: list[Part]) -> str:
    return "".join(part.text for part in parts)


def _count_at_most(parts: list[Part]) -> int:
    """Return a number of tokens that the parts do not exceed: no token is less than a byte."""
    return sum(len(part.text.encode()) for part in parts) + _MORE_TOKENS
