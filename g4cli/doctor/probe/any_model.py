"""Ask llama.cpp about a model of any architecture, in the prompt format of the file itself.

Nothing is known about such a model from elsewhere. So the file's own template writes the questions,
its own vocabulary must hold what the template writes, and the answers are those that any language
model gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from g4cli.core.errors import BadFile
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_values import Array, find_data
from g4cli.core.template_child import render_template
from g4cli.doctor.probe.prompts import (
    CHAT_QUESTIONS,
    MAX_PROMPT,
    PLAIN_QUESTIONS,
    Question,
)
from g4cli.doctor.probe.tokenizer import TokenizerAnswers
from g4cli.doctor.reference import TOKENIZER

# How the published models of other families spell their control tokens; DeepSeek's has a wide |.
_CONTROL_TOKEN: Final = re.compile(
    "<[|\N{FULLWIDTH VERTICAL LINE}][^<>\\s]{1,60}[|\N{FULLWIDTH VERTICAL LINE}]>"
    r"|<(?:start|end)_of_turn>|</?s>|<[be]os>"
)


@dataclass(frozen=True, slots=True)
class OwnPrompt:
    """The questions as the file's own template writes them, or why it fails (`fault`)."""

    questions: tuple[Question, ...] = ()
    fault: str = ""

    @property
    def text(self) -> str:
        """The first prompt, or ''."""
        return self.questions[0].text if self.questions else ""

    @property
    def question(self) -> str:
        """What the first prompt asks, or ''."""
        return self.questions[0].name if self.questions else ""


def render_own_template(template: str, header: Header) -> OwnPrompt:
    """Return the chat questions as `template`, that of the file with `header`, writes them."""
    cases = [
        {"messages": [{"role": "user", "content": question}]} for question, _ in CHAT_QUESTIONS
    ]
    try:
        texts = render_cases(template, header, cases)
    except BadFile as fault:
        return OwnPrompt(fault=fault.message)
    pairs = zip(CHAT_QUESTIONS, texts, strict=True)
    return OwnPrompt(tuple(Question(question, text, word) for (question, word), text in pairs))


def render_cases(template: str, header: Header, cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the prompt that `template` writes for each case.

    A case holds the template's variables, `messages` among them, that add to the usual ones or
    replace them. Raises BadFile if the template fails.
    """
    variables = {
        "add_generation_prompt": True,
        "enable_thinking": False,
        "tools": None,
        "bos_token": token_text(header, "bos_token_id"),
        "eos_token": token_text(header, "eos_token_id"),
    }
    return render_template(template, [{**variables, **case} for case in cases])


def token_text(header: Header, key: str) -> str:
    """Return the text of the token whose id is under `tokenizer.ggml.KEY`, or ''."""
    index = find_data(header.keys, TOKENIZER + key, int)
    texts = find_data(header.keys, TOKENIZER + "tokens", Array)
    if index is None or texts is None or texts.item_type.name != "STRING":
        return ""
    return str(texts.first_items(index + 1)[index]) if 0 <= index < len(texts) else ""


def find_control_tokens(prompt: OwnPrompt | None) -> tuple[str, ...]:
    """Return what the template writes as control tokens, each once; () without a prompt."""
    return tuple(dict.fromkeys(_CONTROL_TOKEN.findall(prompt.text))) if prompt else ()


def own_questions(prompt: OwnPrompt | None, tokenizer: TokenizerAnswers) -> tuple[Question, ...]:
    """Return the questions to ask: in the file's template if it works, else texts to continue.

    A template also fails if it writes nothing, or far more than a short question needs.
    """
    written = prompt.questions if prompt is not None else ()
    if not written or any(not q.text.strip() or len(q.text) > MAX_PROMPT for q in written):
        return own_plain_questions(tokenizer)
    return tuple(replace(q, text=prepend_bos(q.text, tokenizer)) for q in written)


def own_plain_questions(tokenizer: TokenizerAnswers) -> tuple[Question, ...]:
    """Return texts that any language model continues, as programs tokenize them for this one."""
    return tuple(
        Question(text, prepend_bos(text, tokenizer), answer) for text, answer in PLAIN_QUESTIONS
    )


def prepend_bos(text: str, tokenizer: TokenizerAnswers) -> str:
    """Return `text` with the token that begins a text in front, if it belongs there."""
    if not tokenizer.adds_bos or text.startswith(tokenizer.bos):
        return text
    return tokenizer.bos + text
