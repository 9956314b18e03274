"""Options of chat, fit, bench and serve that have one name take the same values, or fewer."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
import typer.main

from g4cli.cli.help import name_value
from g4cli.cli.main import app, register_commands

COMMANDS = ("chat", "fit", "bench", "serve", "imatrix")
# Not settings of a run, but of one command's output.
OWN = {"--json", "--quiet", "--help"}
# One letter has other meanings in llama-bench, whose options `g4 bench` takes.
OWN_LETTERS = {"-p", "-n", "-o", "-c", "-m", "-r", "-d"}


def options_of(command: str) -> dict[str, Any]:
    register_commands()
    found = typer.main.get_command(app).get_command(None, command)  # type: ignore[attr-defined,arg-type]
    return {
        name: parameter
        for parameter in found.params
        for name in parameter.opts
        if name.startswith("-") and name not in OWN | OWN_LETTERS
    }


def is_alike(first: str, second: str) -> bool:
    """Return whether two options take the same values, or one takes some of the other's choices."""
    one, other = set(first.split("|")), set(second.split("|"))
    return first == second or (len(one & other) > 1 and (one < other or other < one))


@pytest.mark.parametrize(("one", "other"), list(combinations(COMMANDS, 2)))
def test_the_same_name_takes_the_same_values(one: str, other: str) -> None:
    first, second = options_of(one), options_of(other)
    shared = sorted(first.keys() & second.keys())
    assert shared
    differing = {
        name: (name_value(first[name]), name_value(second[name]))
        for name in shared
        if not is_alike(name_value(first[name]), name_value(second[name]))
        or first[name].is_flag != second[name].is_flag
    }
    assert not differing


@pytest.mark.parametrize(
    "name", ["--ctx", "--kv-type", "--gpu-layers", "--mmap", "--cpu-moe", "--draft", "--mmproj"]
)
def test_fit_knows_what_decides_the_memory_of_a_chat(name: str) -> None:
    assert name in options_of("chat")
    assert name in options_of("fit")
