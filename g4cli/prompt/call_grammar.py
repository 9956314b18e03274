"""Grammars of tool calls: what Gemma 4 may write from '<|tool_call>' to '<tool_call|>'.

    call:get_weather{city:<|"|>Bern<|"|>,days:3}

Members stand in the order in which the chat template writes them (by name, letter case ignored),
which is the order that the model was trained with; optional ones may be missing. Values follow the
JSON schema of the parameter: types, enum, const, bounds of numbers, lengths of strings and lists,
items, properties, anyOf, and references. The rest (a pattern, a format) is left to the caller of
the tool. Lark syntax: docs/syntax.md, llguidance 1.9.1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from g4cli.core.errors import BadField
from g4cli.prompt.tools import QUOTE, format_value, sort_members

_VALUES: Final = {
    "string": f"{QUOTE} TEXT {QUOTE}",
    "integer": "INTEGER",
    "number": "NUMBER",
    "boolean": "BOOLEAN",
    "null": '"null"',
}
# Any value, for schemas that say nothing; keys are bare, as in the template.
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
_RANGES: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")

# Choices that bound the time of llguidance.
_MAX_CHARACTERS: Final = 4 << 20  # of all rules: nested alternatives multiply
_MAX_TIMES: Final = 100_000  # of a character or an item
_MAX_NUMBER: Final = 1e300  # near the largest double, 1.8e308
_KINDS: Final = (*_VALUES, "array", "object")
_NOT_ENFORCED: Final = frozenset(
    (
        "pattern", "format", "uniqueItems", "prefixItems", "contains",
        "minProperties", "maxProperties", "patternProperties", "propertyNames",
        "allOf", "not", "if", "dependentRequired", "dependentSchemas",
    )
)  # fmt: skip
# Keywords whose values are data, and those whose values map names to schemas.
_DATA: Final = ("const", "enum", "default", "examples")
_NAMED: Final = ("properties", "$defs", "definitions")


def list_unenforced_keywords(schema: Any) -> tuple[str, ...]:
    """Return the keywords of a parameter schema that the grammar does not enforce, sorted."""
    keywords: set[str] = set()
    open_values: list[tuple[Any, bool]] = [(schema, False)]
    while open_values:
        value, is_names = open_values.pop()
        if isinstance(value, list):
            open_values += [(item, False) for item in value]
        elif isinstance(value, Mapping):
            if not is_names:
                keywords |= _NOT_ENFORCED & value.keys()
            open_values += [
                (item, not is_names and key in _NAMED)
                for key, item in value.items()
                if is_names or key not in _DATA
            ]
    return tuple(sorted(keywords))


def write_call_rules(tools: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return rules of Lark; `call` is a call of one of `tools` (OpenAI's form) without its marks.

    Raises BadField if the rules would be too large, or references lead too far.
    """
    writer = _Writer()
    names = []
    for index, tool in enumerate(tools):
        function = tool.get("function", tool)
        parameters = function.get("parameters") or {}
        try:
            body = writer.write_object(parameters, f"tool_{index}", parameters)
        except RecursionError:
            raise BadField("tools", "their parameters are nested too deeply by $ref") from None
        names.append(writer.add_rule(f"call_{index}", f"{_literal(function['name'])} {body}"))
    return [f'call: "call:" ({" | ".join(names)})', *writer.rules, *_ANY]


class _Writer:
    """Collects rules; the rule of a schema is named after its place."""

    def __init__(self) -> None:
        self.rules: list[str] = []
        self._n_characters = 0
        self._references: dict[tuple[int, str], str] = {}

    def add_rule(self, name: str, text: str) -> str:
        """Add a rule and return its name. Raises BadField if all are too large together."""
        self.rules.append(f"{name}: {text}")
        self._n_characters += len(self.rules[-1])
        if self._n_characters > _MAX_CHARACTERS:
            raise BadField("tools", "the grammar of their parameters is too large")
        return name

    def write_value(self, schema: Any, name: str, root: Mapping[str, Any]) -> str:
        """Return the name of a rule for the values of `schema`, whose references are to `root`."""
        if not isinstance(schema, Mapping) or not schema:
            return "any"
        if schema.get("nullable"):
            plain = {key: value for key, value in schema.items() if key != "nullable"}
            return self._write_options([plain, {"type": "null"}], name, root)
        if isinstance(reference := schema.get("$ref"), str):
            return self._write_reference(reference, name, root)
        if "const" in schema:
            return self.add_rule(name, _value_text(schema["const"]))
        if isinstance(values := schema.get("enum"), list) and values:
            return self.add_rule(name, " | ".join(_value_text(value) for value in values))
        for key in ("anyOf", "oneOf"):
            if isinstance(options := schema.get(key), list) and options:
                return self._write_options(options, name, root)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            known = dict.fromkeys(str(kind).lower() for kind in kinds)
            known = dict.fromkeys(kind if kind in _KINDS else "any" for kind in known)
            return self._write_options([{**schema, "type": kind} for kind in known], name, root)
        kind = str(kinds).lower()
        if kind in _VALUES:
            return self.add_rule(name, self._write_scalar(kind, schema, name))
        if kind == "array":
            item = self.write_value(schema.get("items"), f"{name}_i", root)
            return self.add_rule(name, f'"[" {_repeat_item(item, schema)} "]"')
        if kind == "object" or "properties" in schema:
            return self.write_object(schema, name, root)
        return "any"

    def write_object(self, schema: Mapping[str, Any], name: str, root: Mapping[str, Any]) -> str:
        """Return the name of a rule for objects: declared members alone, unless there are none."""
        properties = schema.get("properties")
        if not isinstance(properties, Mapping) or not properties:
            return "any_object"
        required = schema.get("required") or ()
        members = [
            (
                f"{_literal(f'{key}:')} {self.write_value(value, f'{name}_{index}', root)}",
                key in required,
            )
            for index, (key, value) in enumerate(sort_members(properties))
        ]
        return self.add_rule(name, f'"{{" {self._write_members(members, name)} "}}"')

    def _write_members(self, members: Sequence[tuple[str, bool]], name: str) -> str:
        """Return the content of the braces: for each member a rule for what follows the others.

        There are two such rules, for when a member came before it (then a comma does) and when not.
        """
        following = {False: '""', True: '""'}  # the rule after this member, by "after a member"
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
        ranges = {key: schema[key] for key in _RANGES if _is_number(schema.get(key))}
        if kind in ("integer", "number") and ranges:
            return f"%json {json.dumps({'type': kind, **ranges})}"
        least, most = _read_bounds(schema, "minLength", "maxLength")
        if kind == "string" and (least or most is not None):
            end = "" if most is None else most
            text = self.add_rule(f"T_{name.upper()}", f"/(?s:.{{{least},{end}}})/")
            return f"{QUOTE} {text} {QUOTE}"
        return _VALUES[kind]

    def _write_options(self, options: Sequence[Any], name: str, root: Mapping[str, Any]) -> str:
        rules = [
            self.write_value(option, f"{name}_o{index}", root)
            for index, option in enumerate(options)
        ]
        return self.add_rule(name, " | ".join(rules))

    def _write_reference(self, reference: str, name: str, root: Mapping[str, Any]) -> str:
        known = self._references.get((id(root), reference))
        if known is not None:
            return known
        target: Any = root
        for step in reference.removeprefix("#").strip("/").split("/"):
            step = step.replace("~1", "/").replace("~0", "~")
            if step:
                target = target.get(step) if isinstance(target, Mapping) else None
        if not reference.startswith("#") or not isinstance(target, Mapping):
            return "any"
        # Noted first: a recursive schema refers to itself.
        self._references[id(root), reference] = f"{name}_r"
        return self.add_rule(f"{name}_r", self.write_value(target, f"{name}_t", root))


def _value_text(value: Any) -> str:
    """Return a constant in Gemma's notation: literals of Lark, and the token of quotation marks."""
    text = "null" if value is None else format_value(value, quote_keys=False)
    pieces = text.split(QUOTE)
    parts = [QUOTE if index % 2 else pieces[index // 2] for index in range(2 * len(pieces) - 1)]
    return " ".join(part if part == QUOTE else _literal(part) for part in parts if part) or '""'


def _literal(text: str) -> str:
    """Return `text` as a literal of Lark."""
    return json.dumps(text, ensure_ascii=False)


def _repeat_item(item: str, schema: Mapping[str, Any]) -> str:
    """Return the content of a list, with as many items as minItems and maxItems allow."""
    least, most = _read_bounds(schema, "minItems", "maxItems")
    if most == 0:
        return '""'
    end = "" if most is None else most - 1
    items = f'{item} ("," {item}){{{max(least - 1, 0)},{end}}}'
    return items if least else f"({items})?"


def _read_bounds(schema: Mapping[str, Any], low: str, high: str) -> tuple[int, int | None]:
    """Return how many there must and may be; what makes no sense counts as not said."""
    least, most = _read_times(schema.get(low)) or 0, _read_times(schema.get(high))
    return least, None if most is None or most < least else most


def _read_times(value: Any) -> int | None:
    """Return a number of repetitions; None if it is none, or too large to be enforced."""
    return int(value) if _is_number(value) and 0 <= value <= _MAX_TIMES else None


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MAX_NUMBER
    )
