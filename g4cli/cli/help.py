"""Typer's commands and groups, changed in three ways. `main.py` registers every command with them.

Help pages name values FILE, N or TEXT, where Typer shows Python types. What a command line leaves
out comes from the user's settings. Commands have the names that Ollama and shells use, too.
"""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, Final

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from g4cli.cli.settings import apply_settings, resolve_model_word
from g4cli.core.config import COMMAND_SECTIONS
from g4cli.core.paths import expand_home

# Names of other programs for commands; the first one that a group has is meant.
OTHER_NAMES: Final = {
    "rm": ("remove", "delete"), "ls": ("list",), "run": ("chat",), "cp": ("copy",)
}  # fmt: skip
# What stands for a value of that type, if the option does not say it.
_VALUE_NAMES: Final = {int: "N", float: "X", Path: "FILE"}


def name_value(option: Any) -> str:
    """Return what the help page shows as the value of a Typer option, "" for a flag.

    It is the option's metavar, its choices, or a word for its type.
    """
    if option.is_flag:
        return ""
    if option.metavar:
        return str(option.metavar)
    value_type = option.type_descriptor.annotation
    if typing.get_origin(value_type) is list:
        (value_type,) = typing.get_args(value_type)
    if typing.get_origin(value_type) is typing.Literal:
        return "|".join(typing.get_args(value_type))
    return _VALUE_NAMES.get(value_type, "TEXT")


def _name_values(parameters: list[Any]) -> list[Any]:
    """Return the parameters, changed to show no Python types and to resolve a MODEL argument."""
    for parameter in parameters:
        if isinstance(parameter, TyperOption):
            parameter.metavar = name_value(parameter)
        elif isinstance(parameter, TyperArgument):
            # Typer would show the Python type after the name, and braces in the usage line.
            parameter.display_type_rich = lambda **_: ""  # type: ignore[method-assign]
            name = parameter.display_name_raw
            if "MODEL" in name:
                parameter.callback = resolve_model_word
            pieces = [name if parameter.required or name.startswith("[") else f"[{name}]"]
            parameter.get_usage_pieces = lambda _, pieces=pieces: pieces  # type: ignore
    return parameters


def _expand_homes(value: Any) -> Any:
    """Return the value of a parameter, "~" in paths replaced: shells leave that of --out=~/a."""
    if isinstance(value, (list, tuple)):
        return [_expand_homes(item) for item in value]
    return expand_home(value) if isinstance(value, Path) else value


class Command(TyperCommand):
    """A command whose help page does not show Python's types."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, --help included."""
        return _name_values(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse `args`; what they leave out comes from the user's settings."""
        # Parsing is resilient while a shell completes: a broken config file must not stop that.
        if self.name in COMMAND_SECTIONS and not ctx.resilient_parsing:
            apply_settings(self, ctx, args)
        left = super().parse_args(ctx, args)
        ctx.params = {name: _expand_homes(value) for name, value in ctx.params.items()}
        return left


class Group(TyperGroup):
    """A group of commands whose help page does not show Python's types.

    It also takes the names that Ollama and shells use: `rm`, `ls`, `run`, `cp`.
    """

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command called `cmd_name`, by its own or another program's name."""
        for name in (cmd_name, *OTHER_NAMES.get(cmd_name, ())):
            if found := super().get_command(ctx, name):
                return found
        return None

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, --help included."""
        return _name_values(super().get_params(ctx))
