"""Bounds on a JSON schema, checked before llama.cpp writes its repetitions out as a grammar."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from g4cli.core.errors import UsageError

MAX_TEXT: Final = 1 << 20
MAX_TIMES: Final = 1000
MAX_NESTING: Final = 100
MAX_PROPERTIES: Final = 300
MAX_PATTERN: Final = 500

_LENGTHS: Final = (("minLength", "maxLength"), ("minItems", "maxItems"))
# Keywords whose values are data, not schemas, and those whose values map arbitrary names to
# schemas.
_DATA: Final = frozenset(("const", "enum", "default", "example", "examples"))
_NAMED: Final = frozenset(
    ("properties", "patternProperties", "definitions", "$defs", "dependentSchemas")
)
_QUANTIFIER: Final = re.compile(r"\{([\d\s,]*)\}")


def parse_schema(text: str) -> Any:
    """Return the JSON value of a schema whose numbers are small enough to become a grammar.

    Raises UsageError, which names the keyword and its place in the schema.
    """
    if len(text) > MAX_TEXT:
        raise _schema_error(f"it has {len(text):,} characters, at most {MAX_TEXT:,}")
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as err:
        said = str(err) if isinstance(err, ValueError) else "it is nested too deeply"
        raise _schema_error(f"it is not JSON: {said}") from None
    open_values: list[tuple[Any, str, int, bool]] = [(schema, "#", 0, False)]
    while open_values:
        value, place, depth, names = open_values.pop()
        if depth > MAX_NESTING:
            raise _schema_error(f"it is nested more than {MAX_NESTING} deep at {place[:200]}")
        if isinstance(value, list):
            open_values += [(v, f"{place}/{i}", depth + 1, False) for i, v in enumerate(value)]
        elif isinstance(value, dict):
            if not names:
                _check_keywords(value, place)
            for key, inner in value.items():
                if names or key not in _DATA:
                    where = f"{place}/{key[:80]}"
                    open_values.append((inner, where, depth + 1, not names and key in _NAMED))
    return schema


def _check_keywords(schema: dict[str, Any], place: str) -> None:
    for low, high in _LENGTHS:
        for key in (low, high):
            if key in schema:
                _check_times(schema[key], key, place)
        if schema.get(low, 0) > schema.get(high, MAX_TIMES):
            raise _schema_error(f"{low} is larger than {high} at {place}")
    properties = schema.get("properties")
    if isinstance(properties, dict) and len(properties) > MAX_PROPERTIES:
        raise _schema_error(f"{len(properties):,} properties at {place}, at most {MAX_PROPERTIES}")
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        if len(pattern) > MAX_PATTERN:
            raise _schema_error(
                f"pattern has {len(pattern):,} characters at {place}, at most {MAX_PATTERN}"
            )
        counts = [
            int(n) for found in _QUANTIFIER.findall(pattern) for n in re.findall(r"\d+", found)
        ]
        if sum(counts) > MAX_TIMES:
            raise _schema_error(
                f"pattern repeats {sum(counts):,} times at {place}, at most {MAX_TIMES:,}"
            )


def _check_times(value: Any, key: str, place: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _schema_error(f"{key} is {str(value)[:40]} at {place}, not a number of times")
    if value > MAX_TIMES:
        raise _schema_error(f"{key} {value:,} at {place} is too large, at most {MAX_TIMES:,}")


def _schema_error(what: str) -> UsageError:
    return UsageError(f"the JSON schema cannot be used: {what}", hint='{"type": "object", ...}')
