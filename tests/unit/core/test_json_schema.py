"""Schemas are refused with the keyword and its place where llguidance cannot enforce them."""

from __future__ import annotations

import json
import re
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
    ({"minLength": 5, "maxLength": 2}, "minLength 5 and maxLength 2 at # leave no"),
    ({"items": {"minimum": 5, "exclusiveMaximum": 5}},
     "minimum 5 and exclusiveMaximum 5 at #/items leave no value"),
    ({"exclusiveMinimum": 1.5, "exclusiveMaximum": 1.5}, "exclusiveMaximum 1.5 at # leave no"),
    ({"minimum": 2**53 + 1, "maximum": 2**53 + 1},  # which is no double
     "minimum 9007199254740994 and maximum 9007199254740992 at # leave no value"),
    ({"$ref": "#/x%20y/a~1b/1", "x y": {"a/b": [0, {"format": "color"}]}},
     "format 'color' at #/x%20y/a~1b/1 cannot"),
    ({"$ref": "#a", "contentSchema": {"$anchor": "a", "not": {}}}, "not at #/contentSchema cannot"),
    ({"items": {"$ref": "#/x/2"}, "x": [{}]}, "'#/x/2' at #/items leads nowhere"),
    ({"$ref": "#/x", "x": [{}]}, "#/x is no schema but"),
    ({"items": {"minProperties": 2}}, "minProperties 2 at #/items cannot be enforced"),
    ({"minProperties": 3, "required": ["a"]}, "minProperties 3 at # cannot be enforced"),
    ({"minProperties": 3, "required": ["a", "a"]}, "minProperties 3 at # cannot be enforced"),
    ({"pattern": "a" * 3000}, "pattern has 3,000 characters at #"),
    ({"patternProperties": {"a" * 3000: {}}}, "pattern has 3,000 characters at #"),
    ({"patternProperties": {f"p{i}": {} for i in range(2000)}}, "2,000 properties at #"),
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
     '{"enum": ' + "[" * 200 + "]" * 200 + "}", '{"title": "' + "a" * (1 << 20) + '"}',
     '{"minimum": NaN}', '{"enum": [1e999]}'],
    ids=range(8),
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


def test_a_schema_is_completed_wherever_a_reference_finds_it() -> None:
    schema: Any = {
        "properties": {"day": {"$ref": "#/components/schemas/Day"}, "next": {"$ref": "#"}},
        "components": {"schemas": {"Day": {"type": "string", "format": "date"}}},
    }
    day = parse_schema(json.dumps(schema))["components"]["schemas"]["Day"]
    assert re.search(day["pattern"], "2023-02-29") is None


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
    one = json.loads(expand_short_schema("name\r\nbio: in\u2028two lines"))
    assert one["properties"]["bio"]["description"] == "in\u2028two lines"
    assert one["required"] == ["name", "bio"]


@pytest.mark.parametrize("text", ["", " , ", "a b c", "age integer", "a, a", ": only words"])
def test_short_forms_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="--schema"):
        expand_short_schema(text)


@pytest.mark.parametrize(
    ("name", "most"), [("email", 254), ("date-time", 35), ("uri", 2048), ("uuid", None)]
)
def test_texts_of_a_format_have_a_length(name: str, most: int | None) -> None:
    def bound(**others: int) -> Any:
        schema = {"items": {"format": name, **others}, "properties": {"format": {"const": name}}}
        return parse_schema(json.dumps(schema))["items"].get("maxLength")

    assert bound() == most
    assert bound(maxLength=9) == 9
    assert most is None or bound(minLength=9000) == 9000


@pytest.mark.parametrize("required", [["a"], ["a", "b"]])
def test_one_property_more_than_is_required_is_another_one(required: list[str]) -> None:
    schema = {"minProperties": 2, "required": required}
    assert parse_schema(json.dumps(schema))["minProperties"] == 2


MOST = 2**63 - 1024


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("maximum", 2**64 - 1, MOST), ("maximum", 2**63 - 1, MOST), ("maximum", 1e300, MOST),
        ("maximum", 10**400, MOST), ("minimum", -(2**63), -MOST), ("minimum", -1e300, -MOST),
        ("minimum", 2**53 + 1, 2**53 + 2), ("maximum", 2**53 + 1, 2**53),
        ("exclusiveMaximum", 2**53 + 2, 2**53), ("exclusiveMinimum", -(2**60), -(2**60) + 128),
        ("minimum", 0.1, 0.1), ("maximum", 10**15, 10**15), ("minimum", True, True),
    ],
)  # fmt: skip
def test_bounds_that_no_double_holds_become_stricter(key: str, value: Any, wanted: Any) -> None:
    assert parse_schema(json.dumps({"items": {key: value}}))["items"][key] == wanted


@pytest.mark.parametrize(
    "schema",
    [{"minimum": 10**19}, {"minimum": 10**400}, {"maximum": -1e30}, {"exclusiveMinimum": MOST}],
)
def test_bounds_that_leave_no_number_are_refused(schema: Any) -> None:
    with pytest.raises(UsageError, match="cannot be enforced: bounds end at 9,223,372,036"):
        parse_schema(json.dumps(schema))


@pytest.mark.parametrize(
    ("name", "text", "is_real"),
    [
        ("date", "2024-02-29", True), ("date", "2023-02-29", False), ("date", "1900-02-29", False),
        ("date", "2000-02-29", True), ("date", "2023-02-28", True), ("date", "2023-12-31", True),
        ("date", "0000-01-01", False), ("date", "0001-01-01", True), ("date", "0004-02-29", True),
        ("date-time", "2023-02-29T10:11:12Z", False), ("date-time", "2023-03-01T10:11:12Z", True),
        ("date-time", "2023-03-01T10:11:60Z", False),
        ("time", "10:11:59Z", True), ("time", "10:11:60Z", False),
        ("hostname", "a.bc.d-f", True), ("hostname", "a--b", True), ("hostname", "abc-d", True),
        ("hostname", "ab--c.d", False), ("hostname", "a.xn--b", False), ("hostname", "ab-c", True),
        ("email", "a@b", True), ("email", "a@[1.2.3.4]", True), ("email", "a.b@c.d.e", True),
        ("email", f"{'x' * 64}@b.c", True), ("email", f"{'x' * 65}@b.c", False),
        ("email", f"a@{'x' * 63}.c", True), ("email", f"a@b.{'x' * 64}", False),
    ],
)  # fmt: skip
def test_texts_of_a_format_are_what_others_take(name: str, text: str, is_real: bool) -> None:
    plain = parse_schema(json.dumps({"format": name}))
    both = parse_schema(json.dumps({"format": name, "pattern": "1", "allOf": [{"minLength": 1}]}))
    assert (re.search(plain["pattern"], text) is not None) is is_real
    assert both["pattern"] == "1"
    assert both["allOf"] == [{"minLength": 1}, {"pattern": plain["pattern"]}]
