"""A tool that can be run, and what its result looks like to the model."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from g4cli.prompt.tools import replace_quotes

RESULT_CHARACTERS: Final = 16_000
"""Most characters of a result that the model is shown: a choice, about 4,000 tokens."""


class ToolFailed(Exception):
    """A tool did not do what it was called for; the model is told the message."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: its declaration in OpenAI's form, where it comes from, and what runs it.

    `source` is a phrase such as 'MCP server x': the user reads it beside each call, and in errors.
    `run` takes the arguments and returns a JSON value. It raises ToolFailed, or anything else.
    """

    declaration: Mapping[str, Any]
    source: str
    run: Callable[[Mapping[str, Any]], Any]

    @property
    def name(self) -> str:
        """Return the name by which the model calls it."""
        return str(self.declaration["function"]["name"])


def declare_function(name: str, description: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a declaration in OpenAI's form."""
    function = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": function}


def format_result(value: Any) -> str:
    """Return a result as text: data for the model, without Gemma's quotation mark, and not long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = replace_quotes(text)
    if len(text) > RESULT_CHARACTERS:
        left_out = len(text) - RESULT_CHARACTERS
        text = f"{text[:RESULT_CHARACTERS]}\n[{left_out:,} more characters were left out]"
    return text


def open_log(path: Path) -> IO[bytes]:
    """Return the file for what tools print, or the null device where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")
    except OSError:
        return open(os.devnull, "ab")
