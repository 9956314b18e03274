"""The grammar of tool calls: what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from g4cli.core.errors import BadField, UsageError
from g4cli.prompt.answer_grammar import AnswerForm, make_call_grammar, make_grammar
from g4cli.prompt.call_grammar import list_unenforced_keywords, write_call_rules


def tool(parameters: Any, name: str = "f") -> Any:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def rules(parameters: Any) -> dict[str, str]:
    """Return the rules of the calls of a tool by name."""
    return dict(line.split(": ", 1) for line in write_call_rules([tool(parameters)]))


def lark(grammar: str) -> dict[str, str]:
    """Return the rules of the first part of a grammar by name."""
    lines = json.loads(grammar)["grammars"][0]["lark_grammar"].splitlines()
    assert lines[0] == '%llguidance {"no_forcing": true}'
    return dict(line.split(": ", 1) for line in lines[1:])


def test_members_are_sorted_and_required_ones_cannot_be_left_out() -> None:
    schema = {
        "type": "object",
        "properties": {"b": {"type": "integer"}, "A": {"type": "boolean"}},
        "required": ["b"],
    }
    found = rules(schema)
    assert found["call"] == '"call:" (call_0)'
    assert found["call_0"] == '"f" tool_0'
    assert found["tool_0"] == '"{" tool_0_m0 "}"'
    assert found["tool_0_m0"] == '"A:" tool_0_0 tool_0_m1c | tool_0_m1'
    assert found["tool_0_m1"] == '"b:" tool_0_1 ""'
    assert found["tool_0_m1c"] == '"," "b:" tool_0_1 ""'
    assert found["tool_0_0"] == "BOOLEAN"


def test_bounds() -> None:
    schema = {
        "properties": {
            "n": {"type": "integer", "minimum": 1, "exclusiveMaximum": 9},
            "s": {"type": "string", "minLength": 2},
            "t": {"type": "string", "maxLength": 9, "minLength": -1},
            "v": {"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 4},
            "w": {"type": "array", "items": {"type": "null"}, "maxItems": 3},
            "x": {"type": "array", "maxItems": 0},
            "y": {"type": "array", "maxItems": 1},
        }
    }
    found = rules(schema)
    assert found["tool_0_0"] == '%json {"type": "integer", "minimum": 1, "exclusiveMaximum": 9}'
    assert found["T_TOOL_0_1"] == "/(?s:.{2,})/"
    assert found["T_TOOL_0_2"] == "/(?s:.{0,9})/"
    assert found["tool_0_3"] == '"[" tool_0_3_i ("," tool_0_3_i){1,3} "]"'
    assert found["tool_0_4"] == '"[" (tool_0_4_i ("," tool_0_4_i){0,2})? "]"'
    assert found["tool_0_5"] == '"[" "" "]"'
    assert found["tool_0_6"] == '"[" (any)? "]"'


def test_constants_are_written_in_gemmas_notation() -> None:
    schema = {"type": "object", "properties": {"x": {"enum": ['a"b', 1, True, None, ["c"]]}}}
    assert rules(schema)["tool_0_0"] == (
        '<|"|> "a\\"b" <|"|> | "1" | "true" | "null" | "[" <|"|> "c" <|"|> "]"'
    )


@pytest.mark.parametrize("values", [{"enum": ["a"]}, {"const": "a"}])
def test_one_of_some_values_may_be_null_too(values: Any) -> None:
    found = rules({"properties": {"x": {"type": "string", **values, "nullable": True}}})
    assert found["tool_0_0"] == "tool_0_0_o0 | tool_0_0_o1"
    assert (found["tool_0_0_o0"], found["tool_0_0_o1"]) == ('<|"|> "a" <|"|>', '"null"')


def test_an_answer_may_be_calls_or_text_of_another_grammar() -> None:
    form = AnswerForm("regex", "a/b")
    both = make_grammar(form, [tool({})])
    assert lark(both)["start"] == "@answer | marked_call+"
    assert lark(both)["marked_call"] == "<|tool_call> call <tool_call|>"
    answer = {"name": "answer", "lark_grammar": "start: /a\\/b/"}
    assert json.loads(both)["grammars"][1] == answer
    assert lark(make_grammar(None, [tool({})], several=False))["start"] == "marked_call"
    assert lark(make_grammar(form))["start"] == "@answer"
    assert lark(make_call_grammar([tool({})]))["start"] == "call <tool_call|>"


def test_a_verbose_expression_has_one_line() -> None:
    assert "/(?x) a b/" in make_grammar(AnswerForm("regex", "(?x) a b"))
    with pytest.raises(UsageError, match="one line"):
        make_grammar(AnswerForm("regex", "(?ix)a # first\nb"))


def test_alternatives_that_multiply_are_refused() -> None:
    schema: Any = {"type": "string"}
    for _ in range(18):
        schema = {"anyOf": [{"type": "array", "items": schema}] * 2}
    with pytest.raises(BadField, match="too large"):
        rules({"properties": {"x": schema}})


def test_a_type_that_is_listed_many_times_is_written_once() -> None:
    types = ["string", "STRING", "x", "y"] * 50
    assert rules({"properties": {"x": {"type": types}}})["tool_0_0"] == "tool_0_0_o0 | any"


def test_a_required_name_that_is_none_is_ignored() -> None:
    schema = {"properties": {"x": {"type": "null"}}, "required": [{}, "x"]}
    assert rules(schema)["tool_0_m0"] == '"x:" tool_0_0 ""'


def test_a_required_member_that_is_not_declared_can_be_written() -> None:
    schema = {"properties": {"x": {"type": "null"}}, "required": ["y"]}
    assert rules(schema)["tool_0_m1c"] == '"," "y:" any ""'
    with_type = rules({**schema, "additionalProperties": {"type": "boolean"}})
    assert (with_type["tool_0_m1c"], with_type["tool_0_1"]) == ('"," "y:" tool_0_1 ""', "BOOLEAN")
    assert "tool_0_m1" not in rules({**schema, "additionalProperties": False})
    assert rules({"type": "object", "required": ["y"]})["tool_0_m0"] == '"y:" any ""'


def test_a_long_chain_of_references_is_refused() -> None:
    defs: Any = {str(n): {"$ref": f"#/$defs/{n + 1}"} for n in range(1000)}
    with pytest.raises(BadField, match="nested too deeply"):
        rules({"$defs": defs, "properties": {"x": {"$ref": "#/$defs/0"}}})


def test_the_arguments_follow_the_whole_schema_of_the_parameters() -> None:
    number = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    text = {"type": "object", "properties": {"s": {"type": "string"}}}
    found = rules({"$ref": "#/$defs/number", "$defs": {"number": number}})
    assert (found["call_0"], found["tool_0_r"]) == ('"f" tool_0_r', "tool_0_t")
    assert found["tool_0_t_m0"] == '"n:" tool_0_t_0 ""'
    found = rules({"anyOf": [number, text]})
    assert (found["tool_0"], found["tool_0_o0"]) == (
        "tool_0_o0 | tool_0_o1",
        '"{" tool_0_o0_m0 "}"',
    )
    assert rules({"enum": [{"a": 1}, 2]})["tool_0"] == '"{a:1}"'


@pytest.mark.parametrize("schema", [{}, {"type": "string"}, {"enum": ["a"]}, {"anyOf": []}])
def test_the_arguments_are_an_object(schema: Any) -> None:
    assert rules(schema)["call_0"] == '"f" any_object'


@pytest.mark.parametrize(
    "other",
    [{"type": "null"}, {"type": ["null", "string"]}, {"const": None}, {"$ref": "#/$defs/n"}],
)
@pytest.mark.parametrize("key", ["anyOf", "oneOf"])
def test_options_of_the_arguments_that_are_no_objects_are_left_out(key: str, other: Any) -> None:
    schema = {key: [other, CAT, {"type": ["object", "null"], "properties": {"n": {}}}]}
    found = rules({**schema, "$defs": {"n": {"type": "null"}}})
    assert found["tool_0"] == "tool_0_o0 | tool_0_o1"
    assert found["tool_0_o0_m0"] == '"kind:" tool_0_o0_0 ""'
    assert rules({key: [{"type": "null"}]})["tool_0"] == "any_object"


def test_objects_without_declared_members() -> None:
    schema = {"type": "object", "properties": {}}
    members = {
        "a": {**schema, "additionalProperties": False},
        "b": {**schema, "additionalProperties": {"type": "boolean"}},
        "c": schema,
    }
    found = rules({"properties": members})
    assert found["tool_0_0"] == '"{" "}"'
    assert found["tool_0_1"] == '"{" (KEY ":" tool_0_1_v ("," KEY ":" tool_0_1_v)*)? "}"'
    assert found["tool_0_m2"] == '"c:" any_object "" | ""'


def test_alternatives_are_joined_with_what_is_beside_them() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"], "properties": {"c": {"type": "null"}}}],
    }
    found = rules({"properties": {"x": schema}})
    assert found["tool_0_0"] == "tool_0_0_o0 | tool_0_0_o1"
    assert found["tool_0_0_o0_m0"] == '"a:" tool_0_0_o0_0 tool_0_0_o0_m1c'
    assert found["tool_0_0_o1_m1"] == '"b:" tool_0_0_o1_1 tool_0_0_o1_m2c'
    assert list_unenforced_keywords(schema) == ()


@pytest.mark.parametrize(
    ("schema", "keywords"),
    [
        ({"minLength": 2, "anyOf": [{"minLength": 3}]}, ("anyOf",)),
        ({"properties": {"a": {}}, "oneOf": [{"properties": {"a": {"type": "null"}}}]}, ("oneOf",)),
        ({"properties": {"a": {}}, "anyOf": [{"$ref": "#"}]}, ("anyOf",)),
        ({"type": "object", "anyOf": [{"$ref": "#"}]}, ()),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}, ()),
        ({"$ref": "#/$defs/a", "$defs": {"a": {}}}, ()),
        ({"$ref": "#/$defs/a"}, ("$ref",)),
        ({"$ref": "#/$defs/a%20b", "$defs": {"a b": {"type": "null"}}}, ()),
        ({"$ref": "#/$defs/a/anyOf/0", "$defs": {"a": {"anyOf": [{"type": "null"}]}}}, ()),
        ({"$ref": "https://x.example/s"}, ("$ref",)),
        ({"$ref": "#", "minLength": 1}, ("$ref",)),
        ({"properties": [], "anyOf": [{"properties": [1]}]}, ()),
    ],
)
def test_what_cannot_be_joined_is_not_enforced(schema: Any, keywords: tuple[str, ...]) -> None:
    assert list_unenforced_keywords(schema) == keywords


CAT = {"type": "object", "properties": {"kind": {"const": "cat"}}, "required": ["kind"]}
DOG = {"type": "object", "properties": {"kind": {"enum": ["dog", "puppy"]}}, "required": ["kind"]}
CLOSED = {"type": "object", "properties": {"b": {}}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("options", "is_exclusive"),
    [
        ([{"type": "integer"}, {"type": "string"}, {"type": "null"}], True),
        ([{"type": "integer"}, {"type": ["null", "NUMBER"]}], False),
        ([{"type": "string"}, {"type": "string", "nullable": True}], False),
        ([{"type": "string", "nullable": True}, {"type": "null"}], False),
        ([{"const": "a"}, {"enum": ["b", 1]}, {"type": "boolean"}], True),
        ([{"const": "a"}, {"enum": ["b", "a"]}], False),
        ([{"const": "a"}, {"type": "string"}], False),
        ([CAT, DOG], True),
        ([CAT, {**DOG, "required": []}], False),
        ([{**CAT, "type": ["object", "null"]}, {**DOG, "type": ["object", "null"]}], False),
        ([{"properties": CAT["properties"], "required": ["kind"]}, DOG], True),
        ([{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}], True),
        ([{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/cat"}], False),
        ([{"$ref": "#/$defs/loop"}, {"type": "null"}], False),
        ([CLOSED, {"type": "object", "required": ["a"]}], True),
        ([CLOSED, {"type": "object", "required": ["b"]}], False),
        ([{"required": ["a"]}, {"required": ["b"]}], False),
        ([{"type": "string"}, {"properties": {"a": {}}}], False),
        ([{"type": "string"}, {}], False),
        ([{"type": "string"}, True], False),
        ([{}], True),
    ],
)
def test_options_that_may_hold_at_once_are_not_kept_apart(
    options: list[Any], is_exclusive: bool
) -> None:
    """Whether a value can match two of them; OpenAI refuses all oneOf in strict schemas."""
    loop = {"$ref": "#/$defs/loop"}
    schema = {
        "$defs": {"cat": CAT, "dog": DOG, "loop": loop},
        "properties": {"x": {"oneOf": options}},
    }
    assert list_unenforced_keywords(schema) == (() if is_exclusive else ("oneOf",))
    schema["properties"]["x"] = {"anyOf": options}
    assert list_unenforced_keywords(schema) == ()


def test_options_of_the_arguments_are_objects() -> None:
    options = [{key: CAT[key] for key in ("properties", "required")}, DOG]
    assert list_unenforced_keywords({"oneOf": options}) == ()
    shared = {"type": "object", "properties": {"a": {}}}
    assert list_unenforced_keywords({**shared, "oneOf": [CAT, {"type": "object"}]}) == ("oneOf",)
    assert list_unenforced_keywords({"properties": {"x": {**shared, "oneOf": options}}}) == ()


@pytest.mark.parametrize("key", ["minLength", "maxLength", "minItems", "maxItems"])
def test_a_bound_that_no_answer_reaches_is_not_enforced(key: str) -> None:
    kind = "string" if key.endswith("Length") else "array"
    assert list_unenforced_keywords({"properties": {key: {"type": kind, key: 10**6}}}) == ()
    schema = {"properties": {"x": {"type": kind, key: 10**6 + 1}}}
    assert list_unenforced_keywords(schema) == (key,)
    assert rules(schema) == rules({"properties": {"x": {"type": kind}}})


@pytest.mark.parametrize(
    ("schema", "rule"),
    [
        ({"type": "integer", "multipleOf": 0}, "INTEGER"),
        ({"type": "number", "multipleOf": 1e22}, "NUMBER"),
        ({"type": "number", "minimum": 2, "maximum": 1}, "NUMBER"),
        ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "INTEGER"),
        ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "INTEGER"),
        ({"type": "number", "minimum": 1, "maximum": 6, "multipleOf": 7}, "NUMBER"),
        (
            {"type": "integer", "minimum": -(2**63)},
            '%json {"type": "integer", "minimum": -9223372036854774784}',
        ),
        (
            {"type": "number", "minimum": 0.1, "maximum": 0.1, "multipleOf": 0.1},
            '%json {"type": "number", "minimum": 0.1, "maximum": 0.1, "multipleOf": 0.1}',
        ),
    ],
)
def test_bounds_of_numbers_that_llguidance_refuses(schema: Any, rule: str) -> None:
    assert rules({"properties": {"x": schema}})["tool_0_0"] == rule


def test_an_empty_list_of_types_says_nothing() -> None:
    assert rules({"properties": {"x": {"type": []}}})["tool_0_m0"] == '"x:" any "" | ""'


def test_half_a_character_is_replaced() -> None:
    found = rules({"properties": {"k\ud800": {"enum": ["\ud800"]}}})
    assert (found["tool_0_0"], found["tool_0_m0"]) == (
        '<|"|> "?" <|"|>',
        '"k?:" tool_0_0 "" | ""',
    )
