"""Jinja2 for templates from strangers: immutable sandbox, and limits on memory, output and time.

The sandbox of jinja2 keeps a template away from Python's insides, but 'x' * 10**10, '%999999999d' or five
nested loops would still take the machine's memory or the user's day.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from g4cli.core.errors import BadFile

TEMPLATE_LIMIT: Final = 1 << 18
OUTPUT_LIMIT: Final = 1 << 24
TIME_LIMIT_S: Final = 2.0
_VALUE_LIMIT: Final = 1 << 20
# Methods of str that make long strings out of a number.
_STRETCHING: Final = frozenset(
    ("format", "format_map", "ljust", "rjust", "center", "zfill", "expandtabs")
)
_FILTERS: Final = ("center", "format", "wordwrap", "indent", "urlize")


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment in which no single operation can take much memory."""

    intercepted_binops = frozenset(("*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        self.globals["raise_exception"] = _raise
        self.globals.pop("lipsum", None)
        for name in _FILTERS:
            self.filters.pop(name, None)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Return `left operator right`, or refuse a huge result."""
        sized = [value for value in (left, right) if hasattr(value, "__len__")]
        if operator == "%" and sized:
            raise SecurityError("no formatting with %")
        if (
            operator == "*"
            and sized
            and any(
                len(s) * abs(n) > _VALUE_LIMIT
                for s in sized
                for n in (left, right)
                if isinstance(n, int)
            )
        ):
            raise SecurityError("a value becomes too long")
        if operator == "**" and (abs(left) > 1000 or abs(right) > 100):
            raise SecurityError("a number becomes too large")
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> None:
        """Return None: jinja2's own wrapper of str.format has no limit on widths."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether the template may use `obj.attr`."""
        if isinstance(obj, str) and attr in _STRETCHING:
            return False
        return super().is_safe_attribute(obj, attr, value)


def compile_template(source: str) -> Any:
    """Return the compiled template. Raises BadFile if it is too long or does not parse."""
    if len(source) > TEMPLATE_LIMIT:
        raise BadFile(f"the chat template has {len(source):,} characters", hint="g4 doctor FILE")
    try:
        with _time_limit():
            return Sandbox().from_string(source)
    except (TemplateError, RecursionError, MemoryError, _TooLong) as err:
        raise BadFile(f"the chat template does not parse: {err}", hint="g4 doctor FILE") from err


def run_template(compiled: Any, variables: Mapping[str, Any]) -> str:
    """Return what the template writes. Raises BadFile if it fails or breaks a limit."""
    pieces: list[str] = []
    size = 0
    try:
        with _time_limit():
            for piece in compiled.generate(**variables):
                size += len(piece)
                if size > OUTPUT_LIMIT:
                    raise BadFile("the chat template writes without end", hint="g4 doctor FILE")
                pieces.append(piece)
    except _FAILURES as err:
        raise BadFile(f"the chat template fails: {err}", hint="g4 doctor FILE") from err
    return "".join(pieces)


class _TooLong(Exception):
    """The template ran out of time."""


_FAILURES: Final = (
    TemplateError, TypeError, ValueError, AttributeError, ArithmeticError, LookupError, RecursionError,
    MemoryError, _TooLong,
)  # fmt: skip


@contextmanager
def _time_limit() -> Iterator[None]:
    """Raise _TooLong inside Python code that runs for longer than TIME_LIMIT_S."""
    end = time.monotonic() + TIME_LIMIT_S
    before = sys.gettrace()

    def watch(_frame: FrameType, _event: str, _argument: object) -> Any:
        if time.monotonic() > end:
            raise _TooLong(f"it runs for more than {TIME_LIMIT_S:.0f} s")
        return watch

    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)


def _raise(message: object = "") -> None:
    raise TemplateError(str(message))
