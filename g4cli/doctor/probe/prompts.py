"""The same questions in several prompt formats: Gemma 4's turns, the file's template, plain text.

If a model answers well in one format and not in another, the format is at fault and not the
network.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Final, TypeAlias

from g4cli.core.errors import BadFile
from g4cli.core.paths import tiny_dir
from g4cli.core.template_child import render_template
from g4cli.doctor.reference import EMPTY_THOUGHT_MODELS
from g4cli.prompt.messages import Message
from g4cli.prompt.render import PromptStyle, render
from g4cli.prompt.template import make_template_variables

# Questions that any Gemma 4 chat model answers, with a word of the right answer in lower case ...
CHAT_QUESTIONS: Final = (
    ("What is the capital of France?", "paris"),
    ("What is 2 + 2?", "4"),
    ("Repeat this word: zebra", "zebra"),
)
# ... and texts that any language model continues.
PLAIN_QUESTIONS: Final = (
    ("The capital of France is", "paris"),
    ("One, two, three, four, five, six,", "seven"),
    ("Monday, Tuesday, Wednesday, Thursday,", "friday"),
)
_N_TINY_QUESTIONS: Final = 6  # a choice: each is known, and takes a tenth of a second
# Text that every language model of any size predicts, about 40 tokens.
PLAIN_ENGLISH: Final = (
    "The sun rises in the east and sets in the west. A week has seven days: Monday, Tuesday, "
    "Wednesday, Thursday, Friday, Saturday and Sunday. One, two, three, four, five, six, seven."
)
# Characters of a prompt at most. Longer ones do not fit into the probe's context (child.N_CTX), and
# no sound template makes one of a short question.
MAX_PROMPT: Final = 600

FILE_TEMPLATE: Final = "the file's template"
PLAIN_TEXT: Final = "plain text"


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt: its name in reports, and its whole text.

    `expected` is a keyword of the right answer, in lower case, or the right answer itself:
    `answers.score_answer` tells them apart by their length.
    """

    name: str
    text: str
    expected: str


Format: TypeAlias = tuple[str, tuple[Question, ...]]
"""The name of a prompt format, and the questions in it."""


def render_chat_questions(model_name: str) -> tuple[Question, ...]:
    """Return the questions in Gemma 4's turns, as `g4 chat` renders them."""
    style = PromptStyle(empty_thought=model_name in EMPTY_THOUGHT_MODELS)
    return tuple(
        Question(
            question, "".join(p.text for p in render([Message("user", question)], style)), answer
        )
        for question, answer in _questions_for(model_name)
    )


def render_template_questions(model_name: str, template: str) -> tuple[Question, ...]:
    """Return the questions as the file's own template renders them; () if it fails."""
    questions = _questions_for(model_name)
    cases = [
        make_template_variables([Message("user", question)], PromptStyle())
        for question, _ in questions
    ]
    try:
        texts = render_template(template, cases)
    except BadFile:
        return ()
    if any(not text.strip() or len(text) > MAX_PROMPT for text in texts):
        return ()
    # Engines put <bos> in front if the template does not.
    whole = [text if text.startswith("<bos>") else "<bos>" + text for text in texts]
    pairs = zip(questions, whole, strict=True)
    return tuple(Question(question, text, answer) for (question, answer), text in pairs)


def plain_text_questions(model_name: str) -> tuple[Question, ...]:
    """Return texts to continue: <bos> and the words, without turns."""
    if model_name != "tiny":
        return tuple(Question(text, "<bos>" + text, answer) for text, answer in PLAIN_QUESTIONS)
    # `tiny` knows no texts but its answers: their first halves are what it continues.
    questions = []
    for _, answer in _read_tiny_questions():
        words = answer.split(" ")
        begin = " ".join(words[: max(3, len(words) // 2)])
        questions.append(Question(begin, "<bos>" + begin, answer[len(begin) :].strip()))
    return tuple(questions)


def other_formats(
    asked: tuple[Question, ...], model_name: str, template: str | None
) -> tuple[Format, ...]:
    """Return the questions in each format other than that of `asked`.

    A template that fails, or that renders what was asked already, is left out.
    """
    plain = (PLAIN_TEXT, plain_text_questions(model_name))
    if not template:
        return (plain,)
    rendered = render_template_questions(model_name, template)
    if not rendered or [q.text for q in rendered] == [q.text for q in asked]:
        return (plain,)
    return ((FILE_TEMPLATE, rendered), plain)


def _questions_for(model_name: str) -> tuple[tuple[str, str], ...]:
    """Return (question, `Question.expected`) for the model of that name."""
    return _read_tiny_questions() if model_name == "tiny" else CHAT_QUESTIONS


@cache
def _read_tiny_questions() -> tuple[tuple[str, str], ...]:
    """Return six pairs (question, answer), spread over what the bundled model was trained on."""
    corpus = (tiny_dir() / "corpus.jsonl").read_text(encoding="utf-8")
    pairs = []
    for line in corpus.splitlines():
        messages = json.loads(line)["messages"]
        if len(messages) == 2 and not messages[1].get("thought"):
            pairs.append((messages[0]["content"], messages[1]["content"]))
    return tuple(pairs[:: max(1, len(pairs) // _N_TINY_QUESTIONS)][:_N_TINY_QUESTIONS])
