"""Messages between two processes of g4: frozen dataclasses as length-prefixed JSON.

    frame    4 bytes, little-endian: the length of what follows; then JSON in ASCII
    JSON     [request, name, fields]: which request it belongs to, the dataclass, its fields by name

Nothing is unpickled. What arrives is checked against the annotations of the dataclass, so that a
process that went wrong gives a ProtocolError and not a strange value. Token ids (`tuple[int, ...]`)
travel as base64 of 32-bit integers: 262,144 of them in 5 ms instead of 60.
"""

from __future__ import annotations

import base64
import json
import os
import struct
import types
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

_LENGTH: Final = struct.Struct("<I")
_MAX_BYTES: Final = 512 << 20  # a choice: the longest prompts take a few MiB
READ_BYTES: Final = 1 << 16  # what a pipe of Linux holds


class ProtocolError(Exception):
    """The other process sent something that is no message."""


class Codec:
    """Turns messages of the given dataclasses into frames and back."""

    def __init__(self, classes: Sequence[type[Any]]) -> None:
        self._classes: dict[str, Any] = {cls.__name__: cls for cls in classes}

    def encode(self, request: int, message: Any) -> bytes:
        """Return the frame of `message`, which belongs to the request of that number."""
        cls: Any = type(message)
        data = f'[{request},"{cls.__name__}",{_make_writer(cls)(message)}]'.encode("ascii")
        return _LENGTH.pack(len(data)) + data

    def decode(self, data: bytes) -> tuple[int, Any]:
        """Return the request's number and the message in the JSON of a frame.

        Raises ProtocolError.
        """
        try:
            request, name, values = json.loads(str(data, "ascii"))
            return int(request), _make_reader(self._classes[name])(values)
        except (ValueError, KeyError, TypeError, RecursionError) as err:
            raise ProtocolError(f"not a message: {err!r}") from err


class FrameReader:
    """Divides what comes out of a pipe into frames."""

    def __init__(self, fd: int) -> None:
        self._fd, self._buffer = fd, bytearray()

    def take_frame(self) -> bytes | None:
        """Return the next frame that is here whole, or None.

        Raises ProtocolError if it is too long.
        """
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > _MAX_BYTES:
            raise ProtocolError(f"a message of {length} bytes")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        frame = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return frame

    def read_more(self) -> bool:
        """Wait for bytes and take them in; return False at the end of the pipe."""
        data = os.read(self._fd, READ_BYTES)
        self._buffer += data
        return bool(data)


def write_all(fd: int, data: bytes | bytearray) -> None:
    """Write all of `data`. Raises OSError (BrokenPipeError: the other process has gone)."""
    with memoryview(data) as view:
        n_written = 0
        while n_written < len(view):
            n_written += os.write(fd, view[n_written:])


@cache
def _make_writer(hint: Any) -> Callable[[Any], str]:
    """Return what turns a value of the annotated type `hint` into JSON in ASCII.

    One is made for each type and kept: a message goes through this code for every token.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint == tuple[int, ...]:
        return _pack_tokens
    if is_dataclass(hint):
        return _make_dataclass_writer(hint)
    if hint is Path:
        return lambda value: json.dumps(str(value))
    if hint is bytes:
        return lambda value: f'"{base64.b64encode(value).decode("ascii")}"'
    if origin in (Union, types.UnionType) and types.NoneType in args:
        (write_some,) = (_make_writer(arg) for arg in args if arg is not types.NoneType)
        return lambda value: "null" if value is None else write_some(value)
    if origin is tuple and args[1:] == (...,):
        item = _make_writer(args[0])
        return lambda value: f"[{','.join(map(item, value))}]" if value else "[]"
    return json.dumps


def _make_dataclass_writer(cls: Any) -> Callable[[Any], str]:
    hints = get_type_hints(cls)
    writers = [
        (f.name, ("," if index else "{") + f'"{f.name}":', _make_writer(hints[f.name]))
        for index, f in enumerate(fields(cls))
    ]

    def write_fields(value: Any) -> str:
        return (
            "".join([begin + write(getattr(value, name)) for name, begin, write in writers]) + "}"
        )

    return write_fields if writers else lambda _: "{}"


def _pack_tokens(tokens: tuple[int, ...]) -> str:
    return f'"{base64.b64encode(array("i", tokens).tobytes()).decode("ascii")}"'


def _unpack_tokens(text: Any) -> tuple[int, ...]:
    return tuple(array("i", base64.b64decode(_check_type(text, str), validate=True)))


def _check_type(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{value!r:.40} is not {kind}")
    return value


@cache
def _make_reader(hint: Any) -> Callable[[Any], Any]:
    """Return what turns JSON into a value of the annotated type `hint`, or raises TypeError."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if hint == tuple[int, ...]:
        return _unpack_tokens
    if is_dataclass(hint):
        return _make_dataclass_reader(hint)
    if hint is Path:
        return lambda value: Path(_check_type(value, str))
    if hint is bytes:
        return lambda value: base64.b64decode(_check_type(value, str), validate=True)
    if hint is float:
        return lambda value: float(_check_type(value, int | float))
    if origin is Literal:
        return lambda value: _one_of(value, args)
    if origin in (Union, types.UnionType):
        (read_some,) = (_make_reader(arg) for arg in args if arg is not types.NoneType)
        return lambda value: None if value is None else read_some(value)
    if origin is tuple and args[1:] == (...,):
        item = _make_reader(args[0])
        return lambda value: tuple(map(item, _check_type(value, list)))
    if origin is not None and issubclass(origin, Mapping):
        return lambda value: _check_type(value, dict)
    if isinstance(hint, type):
        return lambda value: _check_type(value, hint)
    raise TypeError(f"messages cannot hold {hint}")


def _make_dataclass_reader(cls: Any) -> Callable[[Any], Any]:
    hints = get_type_hints(cls)
    readers = [(f.name, _make_reader(hints[f.name])) for f in fields(cls)]

    def read_fields(values: Any) -> Any:
        if len(_check_type(values, dict)) != len(readers):
            raise TypeError(f"{cls.__name__} has other fields")
        return cls(*[read(values[name]) for name, read in readers])

    return read_fields


def _one_of(value: Any, choices: tuple[Any, ...]) -> Any:
    if value not in choices:
        raise TypeError(f"{value!r:.40} is none of {choices}")
    return value
