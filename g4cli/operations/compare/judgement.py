"""Judge an answer by its kind: is the drawing valid, the fact right, the JSON as the schema says?

Nothing that a model wrote is executed: code is only parsed, drawings are rendered by a child.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from dataclasses import asdict, dataclass
from typing import Any, Final

import jsonschema
from referencing import Registry

from g4cli.chat.code_block import find_code_blocks
from g4cli.loops.detector import LoopDetector
from g4cli.operations.prompts import Prompt
from g4cli.operations.svg import check_drawing

_MAX_CODE: Final = 200_000  # characters, a choice: longer code is not parsed
_MAX_PROBLEM: Final = 300  # characters, a choice: jsonschema's messages quote the value
# Markdown's marks of emphasis and code; but between two digits a sign of arithmetic.
_MARKS: Final = re.compile(r"(?<![\d*_`])[*_`]+|[*_`]+(?![\d*_`])")
# Stand for tokens where those are unknown: words and runs of one sign, with the blank before them.
_WORD: Final = re.compile(r"\s*(?:\w+|([^\w\s])\1*)|\s+")
# Different words that get ids of their own: the loop detector tells ids of 20 bits apart, and 20
# ones stand for no token there.
_MAX_WORDS: Final = (1 << 20) - 1


@dataclass(frozen=True, slots=True)
class Judgement:
    """What an answer is worth by itself; None for what its kind does not ask.

    `correct`: it agrees with what was expected. `valid`: its JSON matches the schema, or its code
    parses, by the grammar of the Python that runs g4. `problem` says why not. `drawing` is the
    document of `g4 svg --json` with the repaired drawing as `svg`.
    """

    correct: bool | None = None
    valid: bool | None = None
    problem: str = ""
    drawing: dict[str, Any] | None = None


def judge_answer(prompt: Prompt, answer: str) -> Judgement:
    """Return what the answer to `prompt` is worth."""
    if prompt.kind == "svg":
        checked = check_drawing(answer, prompt.id)
        text = checked.drawing.text if checked.works else None
        return Judgement(drawing=checked.as_json() | {"svg": text, "works": checked.works})
    if prompt.kind == "schema":
        return _judge_json(prompt, answer)
    if prompt.kind == "code":
        return _judge_code(prompt, answer)
    if prompt.expected is None:
        return Judgement()
    return Judgement(correct=contains_answer(answer, prompt.expected))


def contains_answer(answer: str, expected: Any) -> bool:
    """Return whether an answer has one of the `expected` texts as a whole word, in any case.

    A number is whole with its sign, its decimals and its groups of digits.
    """
    texts = expected if isinstance(expected, list) else [expected]
    plain = _fold_text(answer)
    return any(_has_word(plain, _fold_text(str(text))) for text in texts)


def _has_word(plain: str, word: str) -> bool:
    # What must not come before a number: digits, an exponent's mark, a sign that is no hyphen.
    before = r"(?<![\w.,^])(?<!\W[-−])(?<!^[-−])" if word[:1].isdigit() else r"(?<!\w)"
    return re.search(rf"{before}{re.escape(word)}(?!\w|[.,^]\d)", plain) is not None


def _fold_text(text: str) -> str:
    """Return a text in lower case, without Markdown's emphasis, and each white space a blank."""
    return " ".join(_MARKS.sub("", text).casefold().split())


def _judge_json(prompt: Prompt, answer: str) -> Judgement:
    try:
        value = json.loads(extract_block(answer), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return _make_invalid(prompt, "it is not JSON")
    try:
        # An empty registry: a $ref never leads to the network or to a file.
        validator = jsonschema.Draft202012Validator(prompt.schema or {}, registry=Registry())
        error = next(validator.iter_errors(value), None)
    except Exception as err:  # the schema, which is the user's, may be wrong in any way
        return Judgement(valid=False, problem=f"the schema cannot be used: {err}"[:_MAX_PROBLEM])
    if error is not None:
        place = "/".join(map(str, error.absolute_path)) or "the top"
        return _make_invalid(prompt, f"at {place}: {error.message}"[:_MAX_PROBLEM])
    if prompt.expected is None:
        return Judgement(valid=True)
    # Python takes true for equal to 1; JSON Schema does not.
    same = jsonschema.Draft202012Validator({"const": prompt.expected}).is_valid(value)
    return Judgement(correct=same, valid=True)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")  # NaN, Infinity and -Infinity, which Python takes


def _judge_code(prompt: Prompt, answer: str) -> Judgement:
    code = extract_block(answer)
    if len(code) > _MAX_CODE:
        return _make_invalid(prompt, f"it is longer than {_MAX_CODE:,} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an invalid escape in a string of the answer
            ast.parse(code)
    except SyntaxError as err:
        return _make_invalid(prompt, f"line {err.lineno}: {err.msg}")
    except (ValueError, RecursionError, MemoryError) as err:
        return _make_invalid(prompt, f"it cannot be parsed: {err}")
    wanted = prompt.expected if isinstance(prompt.expected, list) else [prompt.expected]
    if prompt.expected is None:
        return Judgement(valid=True)
    lacking = next((text for text in map(str, wanted) if text not in code), None)
    correct, problem = lacking is None, "" if lacking is None else f"it lacks {lacking}"
    return Judgement(correct=correct, valid=True, problem=problem)


def _make_invalid(prompt: Prompt, problem: str) -> Judgement:
    """Return the judgement of an answer that is invalid, and so incorrect if something is right."""
    return Judgement(None if prompt.expected is None else False, valid=False, problem=problem)


def extract_block(answer: str) -> str:
    """Return the longest code block of an answer, or all of it if there is none.

    Shorter ones show how it is called, or what it prints.
    """
    return max(find_code_blocks(answer), key=len, default=answer.strip()).removesuffix("\n")


def find_word_loop(text: str) -> dict[str, Any] | None:
    """Return the loop in an answer of which only the text is known, or None.

    The loop detector counts words and signs in place of tokens.
    """
    ids: dict[str, int] = {}
    letters: set[int] = set()
    detector = LoopDetector(letters.__contains__)
    for match in _WORD.finditer(text):
        token = ids.setdefault(match[0], len(ids) % _MAX_WORDS)
        if match[0].strip()[:1].isalnum():
            letters.add(token)
        loop = detector.feed(token)
        if loop is not None:
            return asdict(loop)
    return None
