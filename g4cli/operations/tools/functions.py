"""Functions of Python as tools: their type hints become the schema of the parameters."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import threading
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from g4cli.core.errors import UsageError
from g4cli.core.files import require_file
from g4cli.operations.tools.tool import Tool, ToolFailed, declare_function

CALL_S: Final = 60.0
"""Most seconds that a function may take."""

_TYPES: Final[Mapping[Any, str]] = types.MappingProxyType(
    {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
)


def load_function(reference: str) -> Tool:
    """Return the tool of MODULE:FUNCTION. Raises UsageError."""
    module_name, colon, name = reference.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(f"--tool {reference!r} is not MODULE:FUNCTION", hint="--tool math:sqrt")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as err:
        raise UsageError(
            f"--tool {reference}: {type(err).__name__}: {err}",
            hint="for a file: --tools FILE.py",
        ) from err
    return make_function_tool(function, reference)


def load_functions(path: Path) -> list[Tool]:
    """Return the public functions that a file of Python defines. Raises UsageError, FileMissing."""
    path = require_file(path.expanduser())
    name = f"g4_tools_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as err:
        raise UsageError(f"{path}: {type(err).__name__}: {err}") from err
    tools = [
        make_function_tool(value, path.name)
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == name and not key.startswith("_")
    ]
    if not tools:
        raise UsageError(
            f"{path} defines no public function", hint="def today() -> str: ... in the file"
        )
    return tools


def make_function_tool(function: Callable[..., Any], source: str) -> Tool:
    """Return a function as a tool. Raises UsageError if a parameter has no usable type hint."""
    name = getattr(function, "__name__", "")
    try:
        signature = inspect.signature(function)
        hints = get_type_hints(function)
    except (TypeError, ValueError, NameError) as err:
        raise UsageError(f"{source}: {name or function!r} cannot be a tool: {err}") from err
    properties: dict[str, Any] = {}
    required = []
    for key, parameter in signature.parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UsageError(f"{source}: {name}: the parameter {key} has no name to call it by")
        if key not in hints:
            raise UsageError(
                f"{source}: {name}: the parameter {key} has no type", hint=f"{key}: str"
            )
        properties[key] = _make_schema(hints[key], f"{source}: {name}: the parameter {key}")
        if parameter.default is parameter.empty:
            required.append(key)
    parameters = {"type": "object", "properties": properties, "required": required}
    declaration = declare_function(name, inspect.getdoc(function) or "", parameters)
    return Tool(declaration, source, lambda arguments: _call_in_thread(function, arguments))


def _make_schema(hint: Any, where: str) -> dict[str, Any]:
    origin, args = get_origin(hint), get_args(hint)
    if hint in _TYPES:
        return {"type": _TYPES[hint]}
    if origin is list:
        return {"type": "array", "items": _make_schema(args[0], where)}
    if origin is dict:
        return {"type": "object"}
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if origin in (Union, types.UnionType):
        options = [arg for arg in args if arg is not types.NoneType]
        if len(options) == 1:
            return {**_make_schema(options[0], where), "nullable": True}
    raise UsageError(
        f"{where} has a type that g4 does not know: {hint}",
        hint="str, int, float, bool, list[T], dict, Literal, or one of them | None",
    )


def _call_in_thread(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Return what the function returns. Raises ToolFailed.

    A function that takes too long goes on in its thread, and nobody waits for it.
    """
    found: list[Any] = []
    failed: list[BaseException] = []

    def call() -> None:
        try:
            found.append(function(**arguments))
        except BaseException as err:
            failed.append(err)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(CALL_S)
    if failed:
        raise ToolFailed(f"{type(failed[0]).__name__}: {failed[0]}")
    if not found:
        raise ToolFailed(f"it took more than {CALL_S:.0f} seconds")
    return found[0]
