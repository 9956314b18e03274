"""Schemas are refused with the keyword and its place where llguidance cannot enforce them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from g4cli.core.errors import UsageError
from g4cli.core.json_schema import WHITESPACE, expand_short_schema, parse_schema

REFUSED: Any = [
    ({"properties": {"a": {"items": {"uniqueItems": True}}}},
     "uniqueItems at #/properties/a/items cannot be enforced"),
    ({"anyOf": [{}, {"not": {}}]}, "not at #/anyOf/1 cannot be enforced"),
    ({"$defs": {"x": {"if": {}}}}, r"if at #/\$defs/x cannot"),
    ({"contains": {}}, "contains at # cannot"),
    ({"dependentRequired": {}}, "dependentRequired at # cannot"),
    ({"format": "color"}, "format 'color' at # cannot"),
    ({"$ref": "http://example.org/x"}, "leaves the schema"),
    ({"items": {"$id": "x"}}, r"\$id at #/items"),
    ({"$schema": "http://json-schema.org/draft-04/schema#"}, r"\$schema is"),
    ({"type": "what"}, "type 'what' at # is unknown"),
    ({"type": ["string", 3]}, "type '3' at # is unknown"),
    ({"minLength": 5, "maxLength": 2}, "minLength is larger than maxLength at #"),
    ({"pattern": "a" * 3000}, "pattern has 3,000 characters at #"),
    ({"properties": {f"p{i}": {} for i in range(2000)}}, "2,000 properties at #"),
    ({"properties": []}, "properties is no object at #"),
    ({"items": 3}, "#/items is no schema but '3'"),
    ([], "it is no object"),
    (False, "it is no object"),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "said"), REFUSED)
def test_what_cannot_be_enforced_is_refused_with_its_place(schema: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_schema(json.dumps(schema))
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 5000, '{"items":' * 200 + "{}" + "}" * 200,
     '{"enum": ' + "[" * 200 + "]" * 200 + "}", '{"title": "' + "a" * (1 << 20) + '"}'],
    ids=range(6),
)  # fmt: skip
def test_what_is_no_schema_or_too_large(text: str) -> None:
    with pytest.raises(UsageError, match="JSON schema cannot be used") as caught:
        parse_schema(text)
    assert len(caught.value.message) < 500


def test_words_of_schemas_as_names_and_data() -> None:
    schema: Any = {
        "properties": {"not": {"const": {"not": 1}}, "format": {"enum": [{"uniqueItems": True}]}},
        "required": ["not"],
        "uniqueItems": False,
        "default": {"contains": 1},
        "x-vendor": {"if": 1},
    }
    options = {"whitespace_pattern": WHITESPACE}
    assert parse_schema(json.dumps(schema)) == {**schema, "x-guidance": options}


def test_the_options_of_llguidance_are_not_the_schemas_to_set() -> None:
    """With "lenient", llguidance would ignore what it cannot enforce."""
    found = parse_schema('{"x-guidance": {"lenient": true}}')
    assert found == {"x-guidance": {"whitespace_pattern": WHITESPACE}}


def test_the_short_form() -> None:
    found = json.loads(expand_short_schema("name, age int, score float, ok bool, bio: its life"))
    assert found["properties"] == {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "score": {"type": "number"},
        "ok": {"type": "boolean"},
        "bio": {"type": "string", "description": "its life"},
    }
    assert found["required"] == ["name", "age", "score", "ok", "bio"]
    lines = json.loads(expand_short_schema("name: first, then last\nage int: in years\n"))
    assert lines["properties"]["name"]["description"] == "first, then last"


@pytest.mark.parametrize("text", ["", " , ", "a b c", "age integer", "a, a", ": only words"])
def test_short_forms_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="--schema"):
        expand_short_schema(text)
