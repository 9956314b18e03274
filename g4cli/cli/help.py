"""Help pages name the values of options as command lines do: FILE, N, TEXT, not Python's types."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, Final

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

_WORDS: Final = {int: "N", float: "X", Path: "FILE"}


def value_name(option: Any) -> str:
    """Return what stands for the value of a Typer option: its metavar, its choices, or a word.

    A flag has no value: the empty text is returned.
    """
    if option.is_flag:
        return ""
    if option.metavar:
        return str(option.metavar)
    kind = option.type_descriptor.annotation
    if typing.get_origin(kind) is list:
        (kind,) = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(typing.get_args(kind))
    return _WORDS.get(kind, "TEXT")


def _name_values(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if isinstance(parameter, TyperOption):
            parameter.metavar = value_name(parameter)
        elif isinstance(parameter, TyperArgument):
            # Typer shows the type of an argument beside its name, which says enough.
            parameter.display_type_rich = lambda **_: ""  # type: ignore[method-assign]
    return parameters


class Command(TyperCommand):
    """A command whose help page names values in words."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, --help included."""
        return _name_values(super().get_params(ctx))


class Group(TyperGroup):
    """The program `g4`, whose help page names values in words."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, --help included."""
        return _name_values(super().get_params(ctx))
