"""The same questions in several frames: g4's chat turns, the file's own template, and plain text.

What fails in one frame and not in another is the frame's fault, not the network's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from g4cli.core.errors import BadFile
from g4cli.core.template_child import render_template
from g4cli.doctor.probe.tiny_answers import questions
from g4cli.prompt.messages import Message
from g4cli.prompt.render import PromptStyle, render
from g4cli.prompt.template import variables_of

# Questions whose answers any Gemma 4 knows, in chat form, and a word of the right answer ...
_CHAT: Final = (
    ("What is the capital of France?", "paris"),
    ("What is 2 + 2?", "4"),
    ("Repeat this word: zebra", "zebra"),
)
# ... and beginnings that any language model goes on with.
_PLAIN: Final = (
    ("The capital of France is", "paris"),
    ("One, two, three, four, five, six,", "seven"),
    ("Monday, Tuesday, Wednesday, Thursday,", "friday"),
)
_TINY_QUESTIONS: Final = 6
# Sizes that expect an empty thought before the answer when thinking is off.
_EMPTY_THOUGHT: Final = ("12b", "26b", "31b")
# Longer ones do not fit into the probe's context; a template that makes so much of a question is no frame.
_LONGEST: Final = 600

OWN, FILE, PLAIN = "g4's chat frame", "the file's template", "plain text"


@dataclass(frozen=True, slots=True)
class Asked:
    """One prompt: its name in the report, its whole text, and what the answer begins with or holds."""

    name: str
    text: str
    want: str


def chat_questions(model_name: str) -> tuple[Asked, ...]:
    """Return the questions as g4 chat asks them, with Gemma 4's turns."""
    style = PromptStyle(empty_thought=model_name in _EMPTY_THOUGHT)
    return tuple(
        Asked(question, "".join(p.text for p in render([Message("user", question)], style)), answer)
        for question, answer in _asked(model_name)
    )


def template_questions(model_name: str, template: str) -> tuple[Asked, ...]:
    """Return the questions as the file's own template frames them; () where it cannot be rendered."""
    asked = [
        variables_of([Message("user", question)], PromptStyle())
        for question, _ in _asked(model_name)
    ]
    try:
        texts = render_template(template, asked)
    except BadFile:
        return ()
    if any(not text.strip() or len(text) > _LONGEST for text in texts):
        return ()
    # Engines put <bos> in front where the template does not.
    whole = [text if text.startswith("<bos>") else "<bos>" + text for text in texts]
    return tuple(Asked(q, text, a) for (q, a), text in zip(_asked(model_name), whole, strict=True))


def plain_beginnings(model_name: str) -> tuple[Asked, ...]:
    """Return beginnings of texts, without any turn: <bos> and the words."""
    if model_name != "tiny":
        return tuple(Asked(text, "<bos>" + text, answer) for text, answer in _PLAIN)
    halves = []
    for _, answer in questions(_TINY_QUESTIONS):
        words = answer.split(" ")
        count = max(3, len(words) // 2)
        begin = " ".join(words[:count])
        halves.append(Asked(begin, "<bos>" + begin, answer[len(begin) :].strip()))
    return tuple(halves)


def _asked(model_name: str) -> tuple[tuple[str, str], ...]:
    return questions(_TINY_QUESTIONS) if model_name == "tiny" else _CHAT
