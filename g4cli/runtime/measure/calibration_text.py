"""Texts for `g4 imatrix`: conversations in the format of the chat template, or a text as it is.

    .jsonl   one conversation per line: {"messages": [...][, "tools": [...]]}, as OpenAI's API has
             them; it ends with an answer of the assistant
    else     plain text: passages between empty lines, each as the answer to one request
    raw      the whole file as one text, as llama-imatrix reads it

An instruction-tuned Gemma sees only conversations: on raw text its activations are others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import BadFile
from g4cli.prompt.messages import Message, ToolCall
from g4cli.runtime.measure.eval_text import read_text_file, split_passages

_ROLES: Final = ("system", "user", "assistant", "tool")
_EXAMPLE: Final = '{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}]}'


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages that end with an answer, and the tools that were declared to the model."""

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class CalibrationText:
    """Either `raw`, or `conversations`. `name` is recorded in the importance matrix."""

    name: str
    conversations: tuple[Conversation, ...] = ()
    raw: str | None = None


def read_calibration_text(path: Path, *, raw: bool, name: str = "") -> CalibrationText:
    """Return the text in the file at `path`, called `name` (default: the path).

    Raises FileMissing, or BadFile if the file is too large, empty, not UTF-8, or a line of a .jsonl
    file is no such conversation.
    """
    text, name = read_text_file(path), name or str(path)
    if not text.strip():
        raise BadFile(f"{path} contains no text", hint="--text FILE with some hundred kilobytes")
    if raw:
        return CalibrationText(name, raw=text.removesuffix("\n"))
    if path.suffix == ".jsonl":
        lines = ((number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip())
        conversations = tuple(_parse_line(path, number, line) for number, line in lines)
    else:
        conversations = tuple(map(Conversation, split_passages(text)))
    return CalibrationText(name, conversations)


def _parse_line(path: Path, number: int, line: str) -> Conversation:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as err:
        raise BadFile(f"{path}, line {number}: not JSON ({err})") from err
    conversation = _parse_conversation(data)
    if conversation is None:
        raise BadFile(
            f"{path}, line {number}: no conversation that ends with an answer", hint=_EXAMPLE
        )
    return conversation


def _parse_conversation(data: Any) -> Conversation | None:
    rows = data.get("messages") if isinstance(data, dict) else None
    tools = data.get("tools") or [] if isinstance(data, dict) else []
    if not isinstance(rows, list) or not isinstance(tools, list):
        return None
    if not all(isinstance(tool, dict) for tool in tools):
        return None
    messages = []
    for row in rows:
        message = _parse_message(row)
        if message is None:
            return None
        messages.append(message)
    if len(messages) < 2 or messages[-1].role != "assistant" or messages[-1].tool_calls:
        return None
    return Conversation(tuple(messages), tuple(tools))


def _parse_message(row: Any) -> Message | None:
    if not isinstance(row, dict) or row.get("role") not in _ROLES:
        return None
    content, thought = row.get("content") or "", row.get("reasoning_content") or ""
    name, rows = row.get("name") or "", row.get("tool_calls") or []
    if not isinstance(rows, list) or not all(isinstance(t, str) for t in (content, thought, name)):
        return None
    calls = [_parse_call(call) for call in rows]
    if any(call is None for call in calls) or not (content or calls):
        return None
    known = tuple(call for call in calls if call is not None)
    return Message(row["role"], content, thought, tool_calls=known, name=name)


def _parse_call(row: Any) -> ToolCall | None:
    function = row.get("function") if isinstance(row, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    arguments = function.get("arguments")
    if isinstance(arguments, str):  # as OpenAI's API sends them
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return None
    return ToolCall(function["name"], arguments) if isinstance(arguments, dict) else None
