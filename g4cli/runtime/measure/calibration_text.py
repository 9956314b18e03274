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
from g4cli.runtime.measure.eval_text import check_type, read_jsonl, read_text_file, split_passages

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
    if raw:  # llama.cpp's tools leave out the last line break of a file too (common/arg.cpp)
        return CalibrationText(name, raw=text.removesuffix("\n"))
    if path.suffix == ".jsonl":
        wanted = "no conversation that ends with an answer"
        conversations = read_jsonl(path, text, _parse_conversation, wanted, _EXAMPLE)
    else:
        conversations = list(map(Conversation, split_passages(text)))
    return CalibrationText(name, tuple(conversations))


def _parse_conversation(data: Any) -> Conversation:
    check_type(data, dict)
    messages = tuple(map(_parse_message, check_type(data["messages"], list)))
    tools = tuple(check_type(tool, dict) for tool in check_type(data.get("tools") or [], list))
    if len(messages) < 2 or messages[-1].role != "assistant" or messages[-1].tool_calls:
        raise ValueError("it does not end with an answer")
    return Conversation(messages, tools)


def _parse_message(row: Any) -> Message:
    check_type(row, dict)
    content, thought, name = (
        check_type(row.get(key) or "", str) for key in ("content", "reasoning_content", "name")
    )
    calls = tuple(map(_parse_call, check_type(row.get("tool_calls") or [], list)))
    if row["role"] not in _ROLES or not (content or calls):
        raise ValueError("no message")
    return Message(row["role"], content, thought, tool_calls=calls, name=name)


def _parse_call(row: Any) -> ToolCall:
    function = check_type(check_type(row, dict)["function"], dict)
    arguments = function["arguments"]
    if isinstance(arguments, str):  # as OpenAI's API sends them
        arguments = json.loads(arguments)
    return ToolCall(check_type(function["name"], str), check_type(arguments, dict))
