"""The process that runs Python functions for the model.

    python -m g4cli.operations.tools.function_child

Requests and replies are lines of JSON. The first request names what to load and the variables of
the environment, and is answered with the declarations of all functions, or with what is wrong; each
further one is a call. What the functions print goes to standard error, and what they read is empty.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, Union, get_args, get_origin, get_type_hints

from g4cli.core.errors import UsageError
from g4cli.operations.tools.tool import declare_function

MAX_RESULT_BYTES: Final = 64 << 20  # a choice; the model is shown 16,000 characters
_MAX_ERROR_CHARACTERS: Final = 2000  # a choice
_TYPES: Final[Mapping[Any, str]] = types.MappingProxyType(
    {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", dict: "object"}
)


@dataclass(frozen=True, slots=True)
class Function:
    """A function that the model may call, with its declaration in OpenAI's form."""

    call: Callable[..., Any]
    declaration: Mapping[str, Any]
    source: str


def load_functions(references: Sequence[str], path: str | None) -> list[Function]:
    """Return the functions MODULE:FUNCTION of `references`, and the public ones of a file.

    Raises UsageError.
    """
    functions = [_load_reference(reference) for reference in references]
    if path is not None:
        functions += _load_file(Path(path))
    return functions


def _load_reference(reference: str) -> Function:
    module_name, colon, name = reference.partition(":")
    if not colon or not module_name or not name:
        raise UsageError(
            f"--tool {reference!r} is not MODULE:FUNCTION", hint="--tool platform:node"
        )
    try:
        function = getattr(importlib.import_module(module_name), name)
    except BaseException as err:
        raise UsageError(
            f"--tool {reference}: {type(err).__name__}: {err}",
            hint="for a file: --tools FILE.py",
        ) from err
    return describe_function(function, reference)


def _load_file(path: Path) -> list[Function]:
    name = f"g4_tools_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as err:
        raise UsageError(f"{path}: {type(err).__name__}: {err}") from err
    functions = [
        describe_function(value, path.name)
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == name and not key.startswith("_")
    ]
    if not functions:
        raise UsageError(
            f"{path} defines no public function", hint="def today() -> str: ... in the file"
        )
    return functions


def describe_function(function: Callable[..., Any], source: str) -> Function:
    """Return a function with its declaration: type hints become the schema of the parameters.

    Raises UsageError if a parameter has no usable type hint.
    """
    name = getattr(function, "__name__", "")
    try:
        signature = inspect.signature(function)
        hints = get_type_hints(function)  # evaluates hints that are written as text
    except Exception as err:
        raise UsageError(f"{source}: {name or function!r} cannot be a tool: {err}") from err
    if inspect.iscoroutinefunction(function):
        raise UsageError(f"{source}: {name} cannot be a tool: it is async", hint=f"def {name}")
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
    return Function(function, declaration, source)


def _make_schema(hint: Any, where: str) -> dict[str, Any]:
    """Return the schema of a type hint; `where` is the beginning of what a UsageError says."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in _TYPES:
        return {"type": _TYPES[hint]}
    if origin is list:  # typing.List has none of items
        return {"type": "array", **({"items": _make_schema(args[0], where)} if args else {})}
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


def run_call(function: Function, arguments: Mapping[str, Any]) -> bytes:
    """Return the reply to a call: its result or how it failed, whatever the function does."""
    try:
        value = function.call(**arguments)
        reply = _encode({"result": value})
    except BaseException as err:  # sys.exit() too
        said = str(err)[:_MAX_ERROR_CHARACTERS]
        return _encode({"failed": f"{type(err).__name__}: {said}" if said else type(err).__name__})
    if len(reply) > MAX_RESULT_BYTES:
        most = MAX_RESULT_BYTES >> 20
        return _encode({"failed": f"its result has more than {most} MiB"})
    return reply


def _encode(reply: Mapping[str, Any]) -> bytes:
    return json.dumps(reply, default=str).encode() + b"\n"


def answer_requests(requests: Iterator[bytes], replies: BinaryIO) -> None:
    """Load the functions that the first request names, and run a call for each further one."""
    start = json.loads(next(requests))
    os.environ.update(start["environment"])
    try:
        functions = load_functions(start["references"], start["path"])
    except UsageError as err:
        replies.write(_encode({"error": err.message, "hint": err.hint}))
        return
    declared = [[function.declaration, function.source] for function in functions]
    replies.write(_encode({"functions": declared}))
    replies.flush()
    by_name = {function.declaration["function"]["name"]: function for function in functions}
    for line in requests:
        request = json.loads(line)
        name = request["function"]
        if name in by_name:
            replies.write(run_call(by_name[name], request["arguments"]))
        else:  # its file has changed since another process loaded it
            replies.write(_encode({"failed": f"there is no function {name} any more"}))
        replies.flush()


def main() -> None:
    """Answer the requests on standard input."""
    if hasattr(os, "setsid"):
        os.setsid()  # a group of its own, which ends with it
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as empty:
        os.dup2(empty.fileno(), 0)
    os.dup2(2, 1)
    with replies:
        answer_requests(iter(requests.readline, b""), replies)


if __name__ == "__main__":
    main()
