"""Grammars of tool calls: what Gemma 4 may write from '<|tool_call>' to '<tool_call|>'.

    call:get_weather{city:<|"|>Bern<|"|>,days:3}

Members stand in the order in which the chat template writes them (by name, letter case ignored),
which is the order that the model was trained with; optional ones may be missing. Values follow the
JSON schema of the parameter: types, enum, const, bounds of numbers, lengths of strings and lists,
items, properties, anyOf, and references; oneOf is read as anyOf. The rest (a pattern, a format) is
left to the caller of the tool. Bounds between which there is no value count as not said: llguidance
would refuse the whole grammar for them.

Lark syntax: docs/syntax.md, llguidance 1.9.1. A name in <> without quotes is a control token there,
as Gemma's quotation mark <|"|> is one; in quotes it would be ordinary text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

from g4cli.core.errors import BadField, UsageError
from g4cli.core.json_schema import round_bounds
from g4cli.prompt.call_schema import (
    MAX_OPTIONS,
    OptionComparison,
    find_target,
    may_be_object,
    read_constants,
    read_list,
    read_properties,
)
from g4cli.prompt.tools import DATA_KEYS, QUOTE, format_value, sort_members

_VALUES: Final = {
    "string": f"{QUOTE} TEXT {QUOTE}",
    "integer": "INTEGER",
    "number": "NUMBER",
    "boolean": "BOOLEAN",
    "null": '"null"',
}
# Any value, for schemas that say nothing; keys have no quotation marks, as in the template.
_ANY: Final = (
    'any: any_string | NUMBER | BOOLEAN | "null" | any_array | any_object',
    f"any_string: {_VALUES['string']}",
    'any_array: "[" (any ("," any)*)? "]"',
    'any_object: "{" (any_member ("," any_member)*)? "}"',
    'any_member: KEY ":" any',
    "TEXT: /(?s:.*)/",
    'KEY: /[^,:{}\\[\\]"<]+/',
    "INTEGER: /-?(0|[1-9][0-9]*)/",
    "NUMBER: /-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?/",
    'BOOLEAN: "true" | "false"',
)
_RANGES: Final = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")
# Of the numerator and the denominator of multipleOf: llguidance 1.9.1 refuses 15 digits.
_MAX_STEP: Final = 10**9
_ALTERNATIVES: Final = ("anyOf", "oneOf")
_ENFORCED: Final = frozenset(
    (
        *_RANGES, *_ALTERNATIVES, "$ref", "const", "enum", "type", "minLength", "maxLength",
        "items", "minItems", "maxItems", "properties", "required", "additionalProperties",
    )
)  # fmt: skip

# Choices that bound the time of llguidance, which grows with the rules and their repetitions.
_MAX_CHARACTERS: Final = 4 << 20  # of all rules: nested alternatives multiply
# Of a character or an item; a larger bound counts as not said. llguidance makes rules in the number
# of the bound's binary digits. Measured with 1.9.1 (EPYC, one core): 400 lists and 800 texts whose
# bounds all differ compile in 0.3 s and 48 MiB with bounds of 1,000, in 1.1 s and 110 MiB with
# 1,000,000; with 10**9 they have more symbols than its 16 bits count. Masks take no longer.
_MAX_TIMES: Final = 1_000_000
_TIMES: Final = ("minLength", "maxLength", "minItems", "maxItems")
_KINDS: Final = (*_VALUES, "array", "object")
_NOT_ENFORCED: Final = frozenset(
    (
        "pattern", "format", "uniqueItems", "prefixItems", "contains",
        "minProperties", "maxProperties", "patternProperties", "propertyNames",
        "allOf", "not", "if", "dependentRequired", "dependentSchemas",
    )
)  # fmt: skip
# Keywords whose values map names to schemas.
_NAMED: Final = ("properties", "$defs", "definitions")


def list_unenforced_keywords(schema: Any) -> tuple[str, ...]:
    """Return the keywords of a parameter schema that the grammar does not enforce, sorted."""
    keywords: set[str] = set()
    comparison = OptionComparison(schema)
    open_values: list[tuple[Any, bool]] = [(schema, False)]
    while open_values:
        value, is_names = open_values.pop()
        if isinstance(value, list):
            open_values += [(item, False) for item in value]
        elif isinstance(value, Mapping):
            if not is_names:
                keywords |= _NOT_ENFORCED & value.keys() | _list_uncombined(value, schema)
                if not _are_exclusive(value, comparison, is_call=value is schema):
                    keywords.add("oneOf")
                keywords |= {key for key in _TIMES if _is_unreachable(value.get(key))}
            open_values += [
                (item, not is_names and key in _NAMED)
                for key, item in value.items()
                if is_names or key not in DATA_KEYS
            ]
    return tuple(sorted(keywords))


def _list_uncombined(schema: Mapping[str, Any], root: Any) -> set[str]:
    """Return $ref, anyOf or oneOf if the grammar cannot hold it together with what is beside it."""
    if isinstance(reference := schema.get("$ref"), str):
        is_alone = schema.keys() & _ENFORCED <= {"$ref", "type"}
        return set() if is_alone and find_target(reference, root) is not None else {"$ref"}
    return {
        key
        for key in _ALTERNATIVES
        for option in read_list(schema, key)
        if isinstance(option, Mapping)
        and not _can_join({k: v for k, v in schema.items() if k in _ENFORCED - {key}}, option)
    }


def _are_exclusive(
    schema: Mapping[str, Any], comparison: OptionComparison, *, is_call: bool
) -> bool:
    """Return whether a value that the grammar allows matches one option of oneOf, not two."""
    options = read_list(schema, "oneOf")
    if len(options) < 2 or isinstance(schema.get("$ref"), str):  # no options beside a $ref
        return True
    if len(options) > MAX_OPTIONS:
        return False
    shared = {key: value for key, value in schema.items() if key in _ENFORCED - {*_ALTERNATIVES}}
    options = [_join_schemas(shared, option) for option in options]
    return comparison.exclude_each_other(options, are_objects=is_call)


def _can_join(shared: Mapping[str, Any], option: Mapping[str, Any]) -> bool:
    """Return whether `_join_schemas` says what both schemas say."""
    if "$ref" in option:
        return shared.keys() <= {"type"}
    pairs = (
        (read_properties(shared), read_properties(option)),
        (shared, {k: v for k, v in option.items() if k not in ("properties", "required")}),
    )
    return all(a[key] == b[key] for a, b in pairs for key in a.keys() & b.keys())


def _join_schemas(shared: Mapping[str, Any], option: Any) -> Mapping[str, Any]:
    """Return the schema of values that `shared` and one of the alternatives beside it allow."""
    if not isinstance(option, Mapping):
        return shared
    return {
        **shared,
        **option,
        "properties": {**read_properties(shared), **read_properties(option)},
        "required": [*read_list(shared, "required"), *read_list(option, "required")],
    }


def write_call_rules(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return rules of Lark, of which `call` is a call of one of `tools` (OpenAI's format).

    The control tokens around a call are not in it. Raises BadField if the rules would be too large,
    or references lead too far.
    """
    writer = _Writer()
    names = []
    for index, tool in enumerate(tools):
        function = tool.get("function", tool)
        parameters = function.get("parameters") or {}
        try:
            body = writer.write_arguments(parameters, f"tool_{index}")
        except RecursionError:
            raise BadField("tools", "their parameters are nested too deeply by $ref") from None
        names.append(writer.add_rule(f"call_{index}", f"{_literal(function['name'])} {body}"))
    return [f'call: "call:" ({" | ".join(names)})', *writer.rules, *_ANY]


class _Writer:
    """Collects rules, each of which is named after the place of its schema.

    `tool_0_2_i` holds for the items of the third member of the first tool's parameters. Other
    letters: m a member and those after it, o one of several options, r a reference, t its target,
    v the members that have no name in the schema.
    """

    def __init__(self) -> None:
        self.rules: list[str] = []
        self._n_characters = 0
        self._root: Any = None  # what the references of the present tool lead into
        self._references: dict[tuple[str, bool], str] = {}  # and `is_call` -> their rules

    def add_rule(self, name: str, text: str) -> str:
        """Add a rule and return its name. Raises BadField if all are too large together."""
        self.rules.append(f"{name}: {text}")
        self._n_characters += len(self.rules[-1])
        if self._n_characters > _MAX_CHARACTERS:
            raise BadField("tools", "the grammar of their parameters is too large")
        return name

    def write_arguments(self, parameters: Any, name: str) -> str:
        """Return the name of a rule for the arguments of a tool: an object in any case."""
        self._root, self._references = parameters, {}
        return self._write_value(parameters, name, is_call=True)

    def _write_value(self, schema: Any, name: str, *, is_call: bool = False) -> str:
        """Return the name of a rule for the values of `schema`; those of a call are objects."""
        if not isinstance(schema, Mapping) or not schema:
            return "any_object" if is_call else "any"
        if schema.get("nullable") and not is_call:
            plain = {key: value for key, value in schema.items() if key != "nullable"}
            return self._write_options([plain, {"type": "null"}], name)
        if isinstance(reference := schema.get("$ref"), str):
            return self._write_reference(reference, name, is_call=is_call)
        constants = read_constants(schema)
        if is_call:
            constants = [value for value in constants if isinstance(value, Mapping)]
        if constants:
            return self.add_rule(name, " | ".join(_value_text(value) for value in constants))
        for key in _ALTERNATIVES:
            if options := read_list(schema, key):
                shared = {name: value for name, value in schema.items() if name != key}
                options = [_join_schemas(shared, option) for option in options]
                if is_call:
                    objects = [o for o in options if may_be_object(o, self._root)]
                    options = objects or options  # none: the arguments are an object in any case
                return self._write_options(options, name, is_call=is_call)
        kinds = "object" if is_call else schema.get("type")
        if isinstance(kinds, list) and kinds:
            known = dict.fromkeys(str(kind).lower() for kind in kinds)
            known = dict.fromkeys(kind if kind in _KINDS else "any" for kind in known)
            return self._write_options([{**schema, "type": kind} for kind in known], name)
        kind = str(kinds).lower()
        if kind in _VALUES:
            return self.add_rule(name, self._write_scalar(kind, schema, name))
        if kind == "array":
            item = self._write_value(schema.get("items"), f"{name}_i")
            return self.add_rule(name, f'"[" {_repeat_item(item, schema)} "]"')
        if kind == "object" or read_properties(schema):
            return self._write_object(schema, name)
        return "any"

    def _write_object(self, schema: Mapping[str, Any], name: str) -> str:
        """Return the name of a rule for objects: named members alone, unless there are none.

        Those are named that are declared, or required and not forbidden.
        """
        properties, required = read_properties(schema), read_list(schema, "required")
        others = schema.get("additionalProperties")
        if others is not False:
            other = others if isinstance(others, Mapping) else {}
            names = (name for name in required if isinstance(name, str))
            properties = {**dict.fromkeys(names, other), **properties}
        if not properties:
            if others is False:
                return self.add_rule(name, '"{" "}"')
            if not isinstance(others, Mapping):
                return "any_object"
            member = f'KEY ":" {self._write_value(others, f"{name}_v")}'
            return self.add_rule(name, f'"{{" ({member} ("," {member})*)? "}}"')
        members = [
            (
                f"{_literal(f'{key}:')} {self._write_value(value, f'{name}_{index}')}",
                key in required,
            )
            for index, (key, value) in enumerate(sort_members(properties))
        ]
        return self.add_rule(name, f'"{{" {self._write_members(members, name)} "}}"')

    def _write_members(self, members: Sequence[tuple[str, bool]], name: str) -> str:
        """Return the content of the braces of an object with the `members`, written in their order.

        There are two rules for each member, for it and all that come after it: the one that ends in
        "c" begins with a comma, for a text in which an earlier member was written.
        """
        following = {False: '""', True: '""'}  # the two rules of the next member; at the end none
        for index in reversed(range(len(members))):
            text, is_required = members[index]
            rules = {}
            for after_member in (False, True):
                comma = '"," ' if after_member else ""
                body = f"{comma}{text} {following[True]}"
                if not is_required:
                    body = f"{body} | {following[after_member]}"
                rule = f"{name}_m{index}{'c' if after_member else ''}"
                rules[after_member] = self.add_rule(rule, body)
            following = rules
        return following[False]

    def _write_scalar(self, kind: str, schema: Mapping[str, Any], name: str) -> str:
        """Return a value that is no list or object, within its bounds."""
        if kind in ("integer", "number") and (ranges := _read_ranges(kind, schema)):
            return f"%json {json.dumps({'type': kind, **ranges})}"
        least, most = _read_bounds(schema, "minLength", "maxLength")
        if kind == "string" and (least or most is not None):
            end = "" if most is None else most
            text = self.add_rule(f"T_{name.upper()}", f"/(?s:.{{{least},{end}}})/")
            return f"{QUOTE} {text} {QUOTE}"
        return _VALUES[kind]

    def _write_options(self, options: Sequence[Any], name: str, *, is_call: bool = False) -> str:
        rules = [
            self._write_value(option, f"{name}_o{index}", is_call=is_call)
            for index, option in enumerate(options)
        ]
        return self.add_rule(name, " | ".join(rules))

    def _write_reference(self, reference: str, name: str, *, is_call: bool) -> str:
        place = (reference, is_call)
        if place not in self._references:
            target = find_target(reference, self._root)
            # Noted first: a recursive schema refers to itself.
            self._references[place] = f"{name}_r"
            self.add_rule(f"{name}_r", self._write_value(target, f"{name}_t", is_call=is_call))
        return self._references[place]


def _value_text(value: Any) -> str:
    """Return a constant in Gemma's notation: literals of Lark, and the token of quotation marks."""
    text = "null" if value is None else format_value(value, quote_keys=False)
    parts = re.split(f"({re.escape(QUOTE)})", text)
    return " ".join(part if part == QUOTE else _literal(part) for part in parts if part) or '""'


def _literal(text: str) -> str:
    """Return `text` as a literal of Lark, with "?" for lone surrogates, which are no text."""
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)


def _repeat_item(item: str, schema: Mapping[str, Any]) -> str:
    """Return the content of a list, with as many items as minItems and maxItems allow."""
    least, most = _read_bounds(schema, "minItems", "maxItems")
    if most == 0:
        return '""'
    end = "" if most is None else most - 1
    # Lark refuses {0,0}.
    more = "" if most == 1 else f' ("," {item}){{{max(least - 1, 0)},{end}}}'
    return f"{item}{more}" if least else f"({item}{more})?"


def _read_bounds(schema: Mapping[str, Any], low: str, high: str) -> tuple[int, int | None]:
    """Return how many there must and may be; what makes no sense counts as not said."""
    least, most = _read_times(schema.get(low)) or 0, _read_times(schema.get(high))
    return least, None if most is None or most < least else most


def _read_times(value: Any) -> int | None:
    """Return a number of repetitions; None if it is none, or too large to be enforced."""
    return int(value) if _is_number(value) and 0 <= value <= _MAX_TIMES else None


def _read_ranges(kind: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bounds of a number as llguidance can keep them; none if they leave no value."""
    ranges = {key: schema[key] for key in _RANGES if _is_number(schema.get(key))}
    step = Fraction(str(ranges.get("multipleOf", 0)))
    if step <= 0 or max(step.numerator, step.denominator) > _MAX_STEP:
        step = Fraction(0)
        ranges.pop("multipleOf", None)
    if kind == "integer":  # the integers among the multiples of a fraction: those of its numerator
        step = Fraction(step.numerator or 1)
    try:
        round_bounds(ranges, "")
    except UsageError:
        return {}
    low = max((ranges[key] for key in _RANGES[:2] if key in ranges), default=None)
    high = min((ranges[key] for key in _RANGES[2:4] if key in ranges), default=None)
    if step and low is not None and high is not None:
        first, last = math.ceil(Fraction(str(low)) / step), math.floor(Fraction(str(high)) / step)
        first += first * step == ranges.get("exclusiveMinimum")
        last -= last * step == ranges.get("exclusiveMaximum")
        if first > last:
            return {}
    return ranges


def _is_unreachable(times: Any) -> bool:
    return _is_number(times) and times > _MAX_TIMES


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) < math.inf
