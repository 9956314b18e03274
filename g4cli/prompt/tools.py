"""Write tool declarations, calls and results in Gemma 4's notation, and parse calls.

Source: google-gemma-4-31B-it.jinja (revision of 2026-04-10), ggml-org/llama.cpp@0c1e57098,
models/templates. `tests/unit/prompt/test_prompt.py` compares with that template. render.py puts
declarations, calls and results into the prompt, reply.py parses the calls of an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from types import MappingProxyType, NoneType
from typing import Any, Final, Literal

from g4cli.core.errors import UsageError
from g4cli.prompt.messages import ToolCall

QUOTE: Final = '<|"|>'  # Gemma's quotation mark, a control token, at both ends of a string
# Properties of these names are not declared, as in the template.
_SCHEMA_KEYS: Final = frozenset(("description", "type", "properties", "required", "nullable"))
_HINT: Final = '[{"type": "function", ...}]'
MAX_DEPTH: Final = 64  # of nested values, a choice: Python allows 1,000 calls


def quote_text(text: object) -> str:
    """Return `text` between Gemma's quotation marks, none of which is in it any more."""
    return f"{QUOTE}{replace_quotes(str(text))}{QUOTE}"


def replace_quotes(text: str) -> str:
    """Return `text` without Gemma's quotation mark, which would end it.

    An apostrophe takes its place: with '"', or nothing, what stands around could be a mark again.
    """
    return text.replace(QUOTE, "'")


def format_value(value: Any, *, quote_keys: bool) -> str:
    """Return a JSON value in Gemma's notation; the template quotes keys only in declarations."""
    if isinstance(value, str):
        return quote_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        items = (
            (quote_text(key) if quote_keys else replace_quotes(key))
            + ":"
            + format_value(item, quote_keys=quote_keys)
            for key, item in sort_members(value)
        )
        return "{" + ",".join(items) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(format_value(item, quote_keys=quote_keys) for item in value) + "]"
    return str(value)  # as the template does: None becomes 'None'


def format_tool_call(name: str, arguments: Mapping[str, Any]) -> str:
    """Return a tool call without its control tokens: 'call:NAME{key:value}'."""
    return f"call:{replace_quotes(name)}{format_value(arguments, quote_keys=False)}"


def format_tool_response(name: str, content: Any) -> str:
    """Return a tool result without its control tokens: 'response:NAME{key:value}'."""
    body = content if isinstance(content, Mapping) else {"value": content}
    return f"response:{replace_quotes(name)}{format_value(body, quote_keys=False)}"


def declare_tool(tool: Mapping[str, Any]) -> str:
    """Return the declaration of a tool in OpenAI's format, without its control tokens.

    Raises UsageError if it is malformed. `response`, the schema of the result, is Gemma's own and
    not OpenAI's; a `tool` may also be its `function` alone. As in the template, the braces of
    parameters and of a response are closed only where these have a type.
    """
    function = tool.get("function", tool)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UsageError(
            "a tool needs a name", hint='[{"type": "function", "function": {"name": "...", ...}}]'
        )
    if not _NAME.fullmatch(function["name"]):
        raise UsageError(
            f"a tool cannot be called {function['name']!r:.80}: the name ends at a space or a brace"
        )
    _check_schema(function["name"], function)
    name, description = function["name"], function.get("description", "")
    text = f"declaration:{replace_quotes(name)}{{description:{quote_text(description)}"
    parameters = function.get("parameters")
    if parameters:
        text += ",parameters:{"
        if parameters.get("properties"):
            text += f"properties:{{{_format_properties(parameters['properties'])}}},"
        if parameters.get("required"):
            text += f"required:{_format_names(parameters['required'])},"
        if parameters.get("type"):
            text += f"type:{quote_text(str(parameters['type']).upper())}}}"
    if "response" in function:
        response = function["response"]
        text += ",response:{"
        if response.get("description"):
            text += f"description:{quote_text(response['description'])},"
        if str(response.get("type", "")).upper() == "OBJECT":
            text += f"type:{quote_text('OBJECT')}}}"
    return text + "}"


def parse_tools(text: str) -> tuple[Mapping[str, Any], ...]:
    """Return the tools in a JSON document: a list, or a single tool. Raises UsageError."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as err:
        raise UsageError(f"the tools are not valid JSON: {err}", hint=_HINT) from err
    tools = data if isinstance(data, list) else [data]
    for tool in tools:
        if not isinstance(tool, Mapping):
            raise UsageError("the tools are not a list of objects", hint=_HINT)
        try:
            declare_tool(tool)  # raises if the tool is malformed
        except (TypeError, AttributeError) as err:  # deep inside, where _check_schema saw data
            raise UsageError(f"a tool's parameters are not a JSON schema: {err}") from err
    return tuple(tools)


_NAME: Final = re.compile(r"[^\s{]+")  # of a tool, as parse_call reads it
# key of a JSON schema -> the types that its value may have, and what they are called in errors.
# Other types would make the code below fail.
_KEY_TYPES: Final[Mapping[str, tuple[tuple[type, ...], str]]] = MappingProxyType(
    {
        "parameters": ((Mapping, NoneType), "an object"),
        "response": ((Mapping,), "an object"),
        "properties": ((Mapping, NoneType), "an object"),
        "required": ((list, tuple, NoneType), "a list of names"),
        "type": ((str, list, tuple, NoneType), "the name of a type"),
    }
)
# Keys of a JSON schema whose values are data, not schemas.
DATA_KEYS: Final = ("default", "enum", "const", "examples")


def _check_schema(tool: str, function: Mapping[str, Any]) -> None:
    """Raise UsageError unless the parameters and the response of a tool look like a JSON schema.

    The role of a mapping says what its keys are: keywords of a schema, names of properties, or
    data, of which only the depth is checked.
    """

    def check_value(value: Any, depth: int, role: Literal["schema", "names", "data"]) -> None:
        if depth > MAX_DEPTH:
            raise UsageError(f"the tool {tool} is nested too deeply")
        if isinstance(value, (list, tuple)):  # data, or the schemas of anyOf
            for item in value:
                check_value(item, depth + 1, role)
        for key, item in value.items() if isinstance(value, Mapping) else ():
            types, description = _KEY_TYPES.get(key, ((object,), ""))
            if role == "schema" and not isinstance(item, types):
                raise UsageError(
                    f"the tool {tool}: {key} must be {description}, not {str(item)[:40]!r}"
                )
            if role == "data" or (role == "schema" and key in DATA_KEYS):
                check_value(item, depth + 1, "data")
            else:  # the keys of "properties" are names: one may be called "type" or "default"
                is_names = role == "schema" and key == "properties"
                check_value(item, depth + 1, "names" if is_names else "schema")

    check_value(function, 0, "schema")


def _format_properties(properties: Mapping[str, Any]) -> str:
    return ",".join(
        f"{replace_quotes(key)}:{{{_format_property(value)}}}"
        for key, value in sort_members(properties)
        if key not in _SCHEMA_KEYS and isinstance(value, Mapping)
    )


def _format_property(value: Mapping[str, Any]) -> str:
    """Return what the template declares of a property: some keywords, in this order."""
    kind = str(value.get("type", "")).upper()
    fields = []
    if value.get("description"):
        fields.append(f"description:{quote_text(value['description'])}")
    if kind == "STRING" and value.get("enum"):
        fields.append(f"enum:{format_value(value['enum'], quote_keys=True)}")
    if kind == "ARRAY" and isinstance(value.get("items"), Mapping) and value["items"]:
        fields.append(f"items:{{{_format_items(value['items'])}}}")
    if value.get("nullable"):
        fields.append("nullable:true")
    if kind == "OBJECT":
        inner = value.get("properties")
        members = inner if isinstance(inner, Mapping) else value
        fields.append(f"properties:{{{_format_properties(members)}}}")
        if value.get("required"):
            fields.append(f"required:{_format_names(value['required'])}")
    fields.append(f"type:{quote_text(kind)}")
    return ",".join(fields)


def _format_items(items: Mapping[str, Any]) -> str:
    """Return the schema of a list's items, of which the template declares all keywords."""
    fields = []
    for key, value in sort_members(items):
        if value is None:
            continue
        if key == "properties":
            members = value if isinstance(value, Mapping) else {}
            fields.append(f"properties:{{{_format_properties(members)}}}")
        elif key == "required":
            fields.append(f"required:{_format_names(value)}")
        elif key == "type":
            kinds = value.upper() if isinstance(value, str) else [str(k).upper() for k in value]
            fields.append(f"type:{format_value(kinds, quote_keys=True)}")
        else:
            fields.append(f"{replace_quotes(key)}:{format_value(value, quote_keys=True)}")
    return ",".join(fields)


def _format_names(names: Sequence[str]) -> str:
    return "[" + ",".join(quote_text(name) for name in names) + "]"


def sort_members(mapping: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the members in the order of jinja2's dictsort: by key, letter case ignored."""
    return sorted(mapping.items(), key=lambda item: item[0].lower())


_CALL: Final = re.compile(rf"\s*call:({_NAME.pattern})\s*(\{{.*\}})\s*", re.DOTALL)
_WORD: Final = re.compile(r"[^,:\[\]{}]+")


def parse_call(text: str) -> ToolCall | None:
    """Return the call that 'call:NAME{...}' is, or None for any other text."""
    match = _CALL.fullmatch(text)
    if not match:
        return None
    reader = _Reader(match[2])
    try:
        arguments = reader.read_value()
    except ValueError:
        return None
    is_call = isinstance(arguments, dict) and reader.is_at_end()
    return ToolCall(match[1], arguments) if is_call else None


class _Reader:
    """A recursive parser of Gemma's notation: JSON with other quotation marks and bare keys.

    All methods raise ValueError for text that is not in this notation.
    """

    def __init__(self, text: str) -> None:
        self._text, self._at, self._depth = text, 0, 0

    def is_at_end(self) -> bool:
        self._skip_space()
        return self._at == len(self._text)

    def read_value(self) -> Any:
        self._skip_space()
        if self._text.startswith(QUOTE, self._at):
            return self._read_string()
        char = self._text[self._at : self._at + 1]
        if char in ("{", "["):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise ValueError("nested too deeply")
            container = self._read_object() if char == "{" else self._read_array()
            self._depth -= 1
            return container
        if char == '"':  # a model may use JSON's quotation marks instead
            string, self._at = json.JSONDecoder().raw_decode(self._text, self._at)
            return string
        return self._read_word()

    def _read_object(self) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self._at += 1
        while not self._take_char("}"):
            key = self.read_value() if self._at_quoted_key() else self._read_key()
            if not self._take_char(":"):
                raise ValueError("a colon is missing")
            members[str(key)] = self.read_value()
            self._read_separator("}")
        return members

    def _read_array(self) -> list[Any]:
        items: list[Any] = []
        self._at += 1
        while not self._take_char("]"):
            items.append(self.read_value())
            self._read_separator("]")
        return items

    def _read_separator(self, closing: str) -> None:
        """Read a comma, which may be missing (and may stand) before the `closing` bracket."""
        if not self._take_char(",") and self._text[self._at : self._at + 1] != closing:
            raise ValueError("a comma is missing")

    def _at_quoted_key(self) -> bool:
        self._skip_space()
        return self._text.startswith((QUOTE, '"'), self._at)

    def _read_key(self) -> str:
        match = _WORD.match(self._text, self._at)
        if not match:
            raise ValueError("a key is missing")
        self._at = match.end()
        return match[0].strip()

    def _read_string(self) -> str:
        start = self._at + len(QUOTE)
        end = self._text.find(QUOTE, start)
        if end < 0:
            raise ValueError("an open quotation")
        self._at = end + len(QUOTE)
        return self._text[start:end]

    def _read_word(self) -> Any:
        """Return the constant or number that stands up to the next sign, or else its text."""
        word = self._read_key()
        try:
            # true, false, null and numbers are written as in JSON; but the template writes Python's
            # None (format_value), and models may write True and False like it.
            return (
                {"None": None, "True": True, "False": False}[word]
                if word[:1] in "NTF"
                else json.loads(word, parse_constant=_refuse_constant, parse_float=_parse_float)
            )
        except (KeyError, ValueError):
            return word

    def _take_char(self, char: str) -> bool:
        self._skip_space()
        if self._text.startswith(char, self._at):
            self._at += 1
            return True
        return False

    def _skip_space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1


def _refuse_constant(word: str) -> Any:
    """Refuse Infinity, -Infinity and NaN, which Python reads and JSON does not have."""
    raise ValueError(word)


def _parse_float(word: str) -> float:
    """Return a number; 1e999 is refused, which Python reads as infinity."""
    return number if isfinite(number := float(word)) else _refuse_constant(word)
