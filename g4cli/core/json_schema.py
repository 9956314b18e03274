"""JSON schemas for answers: what can be enforced, and how large they may be.

llguidance enforces most of JSON Schema 2020-12 (docs/json_schema.md, llguidance 1.9.1). It names
no place for keywords that it refuses. So they are checked here first: one that restricts values and
cannot be enforced is refused with its place.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeGuard
from urllib.parse import unquote

from g4cli.core.errors import UsageError

# Choices that bound the time of llguidance, far above the schemas that people write.
MAX_TEXT: Final = 1 << 20  # characters
MAX_NESTING: Final = 120  # objects and lists; llguidance reads 124, and a format adds 2
MAX_PROPERTIES: Final = 1000  # of one object
MAX_PATTERN: Final = 2000  # characters, of a name in patternProperties too

# Keywords that restrict values, and that llguidance does not implement (1.8.0 by IMPLEMENTED in
# parser/src/json/schema.rs; 1.9.1 refuses each of them).
_NOT_ENFORCED: Final = frozenset(
    (
        "not", "if", "then", "else",
        "contains", "minContains", "maxContains", "unevaluatedItems",
        "propertyNames", "dependentRequired", "dependentSchemas", "dependencies",
        "unevaluatedProperties",
        "$dynamicRef", "$recursiveRef",
    )
)  # fmt: skip
FORMATS: Final = (
    "date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri",
)  # fmt: skip
# The longest text of a format, where a schema has no maxLength: a model that is lost would write
# digits or labels for ever. Times: up to nine digits of a second. An email address has 254
# characters at most (RFC 5321 4.5.3.1.3), a host's name 253 (RFC 1035 2.3.4). Others are choices.
_FORMAT_LENGTHS: Final[Mapping[str, int]] = MappingProxyType(
    {"date-time": 35, "time": 24, "duration": 64, "email": 254, "hostname": 253, "uri": 2048}
)
# llguidance's own expressions allow February 29 in any year, the year 0, and seconds of 60, which
# readers of dates refuse. Each pattern here holds in addition to llguidance's own for the format.
_YEAR: Final = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP_YEAR: Final = (
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
)
_DAY: Final = (
    f"(?:{_YEAR}-(?:0[13-9]|1[0-2])-[0-9]{{2}}|{_YEAR}-02-(?:[01][0-9]|2[0-8])|{_LEAP_YEAR}-02-29)"
)
# And they do not bound the name of a mailbox (RFC 5321 4.5.3.1.1) and the labels of its domain, and
# know no labels that are reserved (RFC 5891 4.2.3.1: two hyphens behind two characters). Those with
# xn-- are left out as well: no expression tells whether the rest is Punycode, as readers demand.
_LABEL: Final = "(?:[^.]{1,3}|[^.]{2}(?:[^.-][^.]|-[^.-])[^.]*)"
_FORMAT_PATTERNS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "date": f"^{_DAY}",
        "date-time": f"^{_DAY}.{{7}}[0-5]",  # after Thh:mm: come the seconds
        "time": "^.{6}[0-5]",
        "hostname": rf"^{_LABEL}(?:\.{_LABEL})*$",
        "email": r"^[^@]{1,64}@(?:\[[^@]*|[^.@]{1,63}(?:\.[^.@]{1,63})*)$",
    }
)
_LARGEST_BOUND: Final = 2**63 - 1024  # the largest double below 2**63
_LARGEST_EXACT: Final = 2**53  # up to here, doubles are integers without gaps
_TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
_DRAFTS: Final = (
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
)
# Keywords whose values map names to schemas, those whose values are lists of schemas, and those
# whose values are one.
_NAMED: Final = ("properties", "patternProperties", "definitions", "$defs")
_LISTS: Final = ("anyOf", "oneOf", "allOf", "prefixItems", "items")
_SINGLE: Final = ("items", "additionalItems", "additionalProperties", "contentSchema")

# Whitespace between two parts of the answer: with no bound, a model may write it for ever. A line
# break with an indentation, or some blanks; the numbers are choices.
WHITESPACE: Final = r"\x0A[\x20\x09]{0,80}|[\x20\x09]{1,4}"


def parse_schema(text: str) -> dict[str, Any]:
    """Return a JSON schema that llguidance enforces whole, with options for it in "x-guidance".

    Raises UsageError, which names the keyword and its place in the schema.
    """
    if len(text) > MAX_TEXT:
        raise _schema_error(f"it has {len(text):,} characters, at most {MAX_TEXT:,}")
    try:
        schema = json.loads(text)
        json.dumps(schema, allow_nan=False)  # NaN and Infinity, which Python reads, are not JSON
    except (ValueError, RecursionError) as err:
        said = str(err) if isinstance(err, ValueError) else "it is nested too deeply"
        raise _schema_error(f"it is not JSON: {said}") from None
    if schema is True:
        schema = {}
    if not isinstance(schema, dict):
        raise _schema_error("it is no object")
    if is_nested_deeper(schema, MAX_NESTING):  # llguidance counts data too
        raise _schema_error(f"it is nested more than {MAX_NESTING} deep")
    parts = list(_list_parts(schema))
    for place, part in parts:
        _check_keywords(part, place)
    for place, part in parts:
        _bound_format(part)
        round_bounds(part, place)
    draft = schema.get("$schema")
    if draft is not None and str(draft).rstrip("#") not in _DRAFTS:
        raise _schema_error(f"$schema is {str(draft)[:80]}, which g4 does not know")
    return {**schema, "x-guidance": {"whitespace_pattern": WHITESPACE}}


def _list_parts(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all schemas inside of a schema with their places. Raises UsageError for what is none.

    What a $ref points to is one too, wherever it stands: OpenAPI has them in components/schemas.
    """
    open_values: list[tuple[Any, str]] = [(schema, "#")]
    seen: set[int] = set()
    while open_values:
        value, place = open_values.pop()
        if isinstance(value, bool) or id(value) in seen:
            continue
        if not isinstance(value, dict):
            raise _schema_error(f"{place[-200:]} is no schema but {str(value)[:40]!r}")
        seen.add(id(value))
        yield place, value
        for key, inner in value.items():
            where = f"{place}/{key[:80]}"
            if key in _NAMED:
                if not isinstance(inner, dict):
                    raise _schema_error(f"{key} is no object at {place[-200:]}")
                open_values += [(item, f"{where}/{name[:80]}") for name, item in inner.items()]
            elif key in _LISTS and isinstance(inner, list):
                open_values += [(v, f"{where}/{i}") for i, v in enumerate(inner)]
            elif key in _SINGLE:
                open_values.append((inner, where))
            elif key == "$ref" and isinstance(inner, str) and inner.startswith("#/"):
                open_values.append((find_value(schema, inner, place), inner[:200]))


_INDEX: Final = re.compile("0|[1-9][0-9]{0,6}")


def find_value(schema: Any, pointer: str, place: str) -> Any:
    """Return what a JSON pointer as a fragment (RFC 6901 6) points to in a schema.

    `place` is where the pointer stands. Raises UsageError if it leads nowhere.
    """
    value = schema
    for part in unquote(pointer).split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and _INDEX.fullmatch(name) and int(name) < len(value):
            value = value[int(name)]
        else:
            raise _schema_error(f"$ref {pointer[:80]!r} at {place[-200:]} leads nowhere")
    return value


def is_nested_deeper(value: Any, most: int) -> bool:
    """Return whether more than `most` objects and lists of a JSON value are within each other."""
    level = [value]
    for _ in range(most):
        level = [
            item
            for outer in level
            for item in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(item, dict | list)
        ]
    return bool(level)


def _check_keywords(schema: dict[str, Any], place: str) -> None:
    place = place[-200:]
    for key, value in schema.items():
        if key in _NOT_ENFORCED or (key == "uniqueItems" and value is not False):
            raise _schema_error(f"{key} at {place} cannot be enforced")
        if key == "format" and value not in FORMATS:
            raise _schema_error(
                f"format {str(value)[:40]!r} at {place} cannot be enforced",
                hint=f"the formats are {', '.join(FORMATS)}",
            )
        if key == "$ref" and not (isinstance(value, str) and value.startswith("#")):
            raise _schema_error(f"$ref {str(value)[:80]!r} at {place} leaves the schema")
        if key in ("$id", "id") and place != "#":
            raise _schema_error(
                f"{key} at {place}: a schema within a schema has no name of its own"
            )
        if key == "type":
            kinds = value if isinstance(value, list) else [value]
            if unknown := [kind for kind in kinds if kind not in _TYPES]:
                raise _schema_error(f"type {str(unknown[0])[:40]!r} at {place} is unknown")
    names = schema.get("patternProperties", {})
    for pattern in (schema.get("pattern"), *names):
        if isinstance(pattern, str) and len(pattern) > MAX_PATTERN:
            raise _schema_error(
                f"pattern has {len(pattern):,} characters at {place}, at most {MAX_PATTERN:,}"
            )
    least, required = schema.get("minProperties"), schema.get("required")
    n_required = len({str(name) for name in required}) if isinstance(required, list) else 0
    if _is_number(least) and least > n_required + 1:
        # One other name is never one of those in `required`, which are written once each. Of two
        # others, nothing keeps a model from writing the same twice, which counts once.
        raise _schema_error(
            f"minProperties {least!s:.20} at {place} cannot be enforced: it needs names in required"
        )
    n_properties = len(schema.get("properties", {})) + len(names)
    if n_properties > MAX_PROPERTIES:
        raise _schema_error(f"{n_properties:,} properties at {place}, at most {MAX_PROPERTIES:,}")


def _bound_format(schema: dict[str, Any]) -> None:
    """Add what bounds the texts of a format, and what makes its dates real, to a schema."""
    name = str(schema.get("format"))
    if name in _FORMAT_LENGTHS and "maxLength" not in schema:
        least = schema.get("minLength")
        least = least if isinstance(least, int) else 0
        schema["maxLength"] = max(_FORMAT_LENGTHS[name], least)
    if name in _FORMAT_PATTERNS:
        if "pattern" in schema:
            others = schema.get("allOf")
            others = others if isinstance(others, list) else []
            schema["allOf"] = [*others, {"pattern": _FORMAT_PATTERNS[name]}]
        else:
            schema["pattern"] = _FORMAT_PATTERNS[name]


def round_bounds(schema: dict[str, Any], place: str) -> None:
    """Replace bounds of numbers that llguidance cannot keep by stricter ones that it can.

    It reads them as doubles, where a large integer is not told apart from the one next to it, and
    writes integers of 64 bits. Raises UsageError if no value is left between two bounds.
    """
    # `up` is the direction in which a bound becomes stricter.
    for key, up in (("minimum", 1), ("exclusiveMinimum", 1), ("maximum", -1),
                    ("exclusiveMaximum", -1)):  # fmt: skip
        value = schema.get(key)
        if not _is_number(value):
            continue
        if value * up < -_LARGEST_BOUND:
            value = -_LARGEST_BOUND * up
        elif _LARGEST_EXACT < abs(value) <= _LARGEST_BOUND:
            inner = float(value)
            # llguidance adds 1 to an exclusive one, which changes no double of this size.
            if inner * up < value * up or key.startswith("exclusive"):
                inner = math.nextafter(inner, up * math.inf)
            value = int(inner)
        if value * up > _LARGEST_BOUND:
            raise _schema_error(
                f"{key} {schema[key]!s:.30} at {place[-200:]} cannot be enforced: bounds end at "
                f"{_LARGEST_BOUND:,}"
            )
        schema[key] = value
    for low, high in _BOUNDS:
        least, most = schema.get(low), schema.get(high)
        if not (_is_number(least) and _is_number(most)):
            continue
        if least > most or (least == most and "exclusive" in low + high):
            raise _schema_error(
                f"{low} {least!s:.30} and {high} {most!s:.30} at {place[-200:]} leave no value"
            )


_BOUNDS: Final = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minimum", "maximum"),
    ("minimum", "exclusiveMaximum"),
    ("exclusiveMinimum", "maximum"),
    ("exclusiveMinimum", "exclusiveMaximum"),
)


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _schema_error(what: str, hint: str = '{"type": "object", ...}') -> UsageError:
    return UsageError(f"the JSON schema cannot be used: {what}", hint=hint)


# --- The short form ---

_SHORT_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
)


def expand_short_schema(text: str) -> str:
    """Return the JSON schema that a short form means: "name, age int, bio: a short biography".

    Fields are separated by commas, or by lines if there are several. A field is a name, a type
    (str, int, float, bool; str if there is none) and, after a colon, a description. All fields are
    required. The syntax is that of the program `llm` (llm/utils.py schema_dsl, llm 0.32). Raises
    UsageError.
    """
    text = text.strip()
    fields = text.split("\n" if "\n" in text else ",")
    properties: dict[str, Any] = {}
    for field in fields:
        head, _, description = field.partition(":")
        words = head.split()
        if not words and not description.strip():
            continue
        if not words or len(words) > 2 or (len(words) == 2 and words[1] not in _SHORT_TYPES):
            raise UsageError(
                f"--schema: {field.strip()!r} is not a field",
                hint='--schema "name, age int, score float, member bool, bio: one sentence"',
            )
        if words[0] in properties:
            raise UsageError(f"--schema: {words[0]!r} appears twice")
        properties[words[0]] = {"type": _SHORT_TYPES[words[1]] if len(words) == 2 else "string"}
        if description.strip():
            properties[words[0]]["description"] = description.strip()
    if not properties:
        raise UsageError("--schema: it has no fields", hint='--schema "name, age int, bio"')
    return json.dumps(
        {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    )
