"""What an answer may be, as llguidance's JSON: a form of its own, calls of tools, or either.

    {"grammars": [{"lark_grammar": "start: @answer | marked_call+ ..."},
                  {"name": "answer", "json_schema": {...}}]}

Lark syntax: docs/syntax.md, llguidance 1.9.1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from g4cli.core.errors import UsageError
from g4cli.core.gbnf import convert_gbnf
from g4cli.core.json_schema import parse_schema
from g4cli.prompt.call_grammar import write_call_rules
from g4cli.prompt.reply import CALL_CLOSE, CALL_OPEN

MAX_CHARACTERS: Final = 1 << 20  # of a grammar or regular expression: a choice
# A flag of regular expressions: line breaks mean nothing, which cannot be said in Lark's syntax.
_VERBOSE: Final = re.compile(r"\(\?[a-zA-Z]*x")

# llguidance would allow a single token where a text is certain; here the model chooses in which
# tokens to write it. The first grammar's option holds for those that it refers to as well.
_OPTIONS: Final = '%llguidance {"no_forcing": true}'


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """The text that restricts an answer: a JSON schema, a grammar in GBNF or in Lark's syntax, or a
    regular expression.
    """

    kind: Literal["json_schema", "gbnf", "lark", "regex"]
    text: str


def make_grammar(
    form: AnswerForm | None,
    tools: Sequence[Mapping[str, Any]] = (),
    *,
    several: bool = True,
) -> str:
    """Return the grammar of answers of `form`, or that consist of calls of `tools`, or either.

    At least one of them is given. `several`: whether there may be more than one call. Raises
    UsageError if a schema or GBNF grammar cannot be enforced (faults of Lark and of regular
    expressions are found when llguidance compiles them), or BadField if the parameters of the tools
    are too large.
    """
    if form is None and not tools:
        raise ValueError("neither a form nor tools")
    calls = "marked_call+" if several else "marked_call"
    names = ["@answer"] * (form is not None) + [calls] * bool(tools)
    rules = [_OPTIONS, f"start: {' | '.join(names)}"]
    if tools:
        rules += [f"marked_call: {CALL_OPEN} call {CALL_CLOSE}", *write_call_rules(tools)]
    parts: list[dict[str, Any]] = [{"lark_grammar": "\n".join(rules)}]
    if form is not None:
        parts.append({"name": "answer", **_make_part(form)})
    return json.dumps({"grammars": parts})


def make_call_grammar(tools: Sequence[Mapping[str, Any]]) -> str:
    """Return the grammar of one call with its closing mark: it follows '<|tool_call>'.

    Raises BadField if the parameters of the tools are too large.
    """
    rules = [_OPTIONS, f"start: call {CALL_CLOSE}", *write_call_rules(tools)]
    return json.dumps({"grammars": [{"lark_grammar": "\n".join(rules)}]})


def _make_part(form: AnswerForm) -> dict[str, Any]:
    """Return the grammar of a form as a part of llguidance's JSON. Raises UsageError."""
    if form.kind == "json_schema":
        return {"json_schema": parse_schema(form.text)}
    if form.kind == "gbnf":
        return {"lark_grammar": convert_gbnf(form.text)}
    if not form.text.strip() or len(form.text) > MAX_CHARACTERS:
        name = "regular expression" if form.kind == "regex" else "grammar"
        fault = f"it has more than {MAX_CHARACTERS:,} characters" if form.text.strip() else ""
        raise UsageError(f"the {name} cannot be used: {fault or 'it is empty'}")
    if form.kind == "lark":
        return {"lark_grammar": form.text}
    if "\n" in form.text and _VERBOSE.search(form.text):
        raise UsageError("a regular expression in verbose mode, (?x), is written on one line")
    # In the syntax of Lark a slash would end the expression.
    return {"lark_grammar": f"start: /{_escape_slashes(form.text)}/"}


def _escape_slashes(text: str) -> str:
    """Return a regular expression with its slashes and line breaks escaped."""
    escaped = {"/": "\\/", "\n": "\\n", "\r": "\\r"}
    # A character behind a backslash is matched with it, so that nothing is escaped twice.
    return re.sub(r"(?s)\\.|[/\r\n]", lambda found: escaped.get(found[0][-1], found[0]), text)
