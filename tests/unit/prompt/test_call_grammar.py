"""The grammar of tool calls: what it says, and that llama.cpp can be given it."""

from __future__ import annotations

from typing import Any

import pytest

from g4cli.core.errors import BadField
from g4cli.core.gbnf import check_grammar
from g4cli.prompt.call_grammar import make_answer_grammar, make_call_grammar


def tool(parameters: Any, name: str = "f") -> Any:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def rules(grammar: str) -> dict[str, str]:
    """Return the rules of a grammar by name."""
    return dict(line.split(" ::= ", 1) for line in grammar.splitlines())


def test_members_are_sorted_and_required_ones_cannot_be_left_out() -> None:
    schema = {
        "type": "object",
        "properties": {"b": {"type": "integer"}, "A": {"type": "boolean"}},
        "required": ["b"],
    }
    found = rules(make_call_grammar([tool(schema)]))
    assert found["root"] == "call <tool_call|>"
    assert found["call"] == '"call:" (call-0)'
    assert found["call-0"] == '"f" tool-0'
    assert found["tool-0"] == '"{" tool-0-m0 "}"'
    assert found["tool-0-m0"] == '"A" ":" tool-0-0 tool-0-m1c | tool-0-m1'
    assert found["tool-0-m1"] == '"b" ":" tool-0-1 ""'
    assert found["tool-0-m1c"] == '"," "b" ":" tool-0-1 ""'
    assert found["tool-0-0"] == '"true" | "false"'


def test_constants_are_written_in_gemmas_notation() -> None:
    schema = {"type": "object", "properties": {"x": {"enum": ['a"b', 1, True, None, ["c"]]}}}
    found = rules(make_call_grammar([tool(schema)]))["tool-0-0"]
    assert found == ('<|"|> "a\\"b" <|"|> | "1" | "true" | "null" | "[" <|"|> "c" <|"|> "]"')


def test_an_answer_may_be_calls_or_text_of_another_grammar() -> None:
    text = 'root ::= "{" rest\nrest ::= "}"'
    found = rules(make_answer_grammar([tool({})], several=True, schema_grammar=text))
    assert found["root"] == "text-root | marked-call+"
    assert found["text-root"] == '"{" rest'
    assert found["marked-call"] == "<|tool_call> call <tool_call|>"
    alone = rules(make_answer_grammar([tool({})], several=False))
    assert alone["root"] == "marked-call"


SCHEMAS: Any = [
    {},
    None,
    {"type": "object"},
    {"type": "object", "properties": {}},
    {"type": "object", "properties": {"a": {}, "b": {"type": "what"}, "c": {"type": "array"}}},
    {"type": "object", "properties": {"a": {"type": ["string", "null"]}, "b": {"nullable": True,
     "type": "number"}}},
    {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/t"}]}},
     "$defs": {"t": {"type": "object", "properties": {"next": {"$ref": "#/$defs/t"}}}}},
    {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "https://x.example/s"},
     "c": {"$ref": "#/missing"}}},
    {"type": "object", "properties": {'odd "key"\n\\': {"const": "\x01"}}},
    {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(100)}},
    {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object",
     "properties": {"x": {"type": "number"}}, "required": ["x"]}}}},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_every_schema_gives_a_grammar_that_llama_cpp_takes(schema: Any) -> None:
    check_grammar(make_call_grammar([tool(schema), tool(schema, "g.h-i")]))
    check_grammar(make_answer_grammar([tool(schema)], several=True))


def test_alternatives_that_multiply_are_refused() -> None:
    schema: Any = {"type": "string"}
    for _ in range(18):
        schema = {"anyOf": [{"type": "array", "items": schema}] * 2}
    with pytest.raises(BadField, match="too large"):
        make_call_grammar([tool({"properties": {"x": schema}})])


def test_a_type_that_is_listed_many_times_is_written_once() -> None:
    types = ["string", "STRING", "x", "y"] * 50
    grammar = make_call_grammar([tool({"properties": {"x": {"type": types}}})])
    assert rules(grammar)["tool-0-0"] == "tool-0-0-o0 | any"
