"""Texts for `g4 eval`, as conversations that end with an answer of the model.

    .jsonl   one conversation per line: {"messages": [{"role", "content"[, "thought"]}]};
             every turn of the assistant is scored
    .json    a chat that g4 saved (/save FILE, g4 chats export): the same
    else     plain text: passages between empty lines, each scored as the answer to one request

Raw text without a chat template says nothing about an instruction-tuned Gemma: perplexities of 1245
to 6279 were reported for intact 31B files (ikawrakow/ik_llama.cpp#1572).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from g4cli.chat import Conversation
from g4cli.chat.conversation import is_saved_chat
from g4cli.core.errors import BadFile
from g4cli.core.files import read_input
from g4cli.prompt.messages import Message

T = TypeVar("T")

MAX_CTX: Final = 8192
"""Tokens after which conversations are truncated: a choice, since long ones take hours on a CPU."""

REQUEST: Final = "Write a passage of text."
_MAX_BYTES: Final = 64 * 1024**2  # a choice: far more text than anybody waits for
# How a line of JSONL with a conversation begins.
_MESSAGES: Final = re.compile(r'\s*\{[^\n]{0,200}"messages"\s*:')
_EXAMPLE: Final = '{"messages": [{"role": "user", "content": "..."}, ...]}'
_ROLES: Final = ("system", "user", "assistant")
# A choice: short passages are joined up to this length, since their tokens have little context.
_PASSAGE_CHARACTERS: Final = 2000


def read_conversations(path: Path) -> list[tuple[Message, ...]]:
    """Return the conversations in the file at `path`, each ending with an assistant's turn.

    "-" is standard input, whose text tells what it is. Raises FileMissing, or BadFile if the file
    is too large, empty, not UTF-8, or a line of a .jsonl file is not a conversation.
    """
    text = read_text_file(path)
    if is_saved_chat(text):
        chat = Conversation.from_text(text)
        conversations = _list_answers(chat.messages())
    elif path.suffix == ".jsonl" or _MESSAGES.match(text):
        wanted = 'no "messages" with "role" and "content"'
        rows = read_jsonl(path, text, _parse_messages, wanted, _EXAMPLE)
        conversations = [answer for messages in rows for answer in _list_answers(messages)]
    else:
        conversations = split_passages(text)
    if not conversations:
        raise BadFile(f"{path} holds no text to evaluate on", hint="--text FILE with paragraphs")
    return conversations


def read_text_file(path: Path) -> str:
    """Return the text in the file or pipe at `path`, or of standard input for "-".

    Raises FileMissing, or BadFile if it is too large or not UTF-8.
    """
    try:
        # Editors of Windows put a byte order mark before the text.
        return read_input(path, _MAX_BYTES).decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as err:
        raise BadFile(f"{path} is not UTF-8 text (byte {err.start})") from err


def split_passages(text: str) -> list[tuple[Message, ...]]:
    """Return the passages of a plain text, each as the answer to a request for one."""
    passages: list[str] = []
    for paragraph in filter(None, (p.strip() for p in text.replace("\r\n", "\n").split("\n\n"))):
        if passages and len(passages[-1]) + len(paragraph) < _PASSAGE_CHARACTERS:
            passages[-1] += "\n\n" + paragraph
        else:
            passages.append(paragraph)
    return [(Message("user", REQUEST), Message("assistant", passage)) for passage in passages]


def _list_answers(messages: Sequence[Message]) -> list[tuple[Message, ...]]:
    """Return each answer with what came before it; one that nothing comes before is left out.

    So are calls of tools: the model does not end its turn after them.
    """
    return [
        tuple(messages[: i + 1])
        for i, message in enumerate(messages)
        if message.role == "assistant" and i > 0 and not message.tool_calls
    ]


def _parse_messages(data: Any) -> list[Message]:
    messages = []
    for row in check_type(check_type(data, dict)["messages"], list):
        if check_type(row, dict)["role"] not in _ROLES:
            raise ValueError("no such role")
        thought = row.get("thought", row.get("reasoning_content", ""))
        thought = thought if isinstance(thought, str) else ""
        messages.append(Message(row["role"], check_type(row["content"], str), thought))
    return messages


def read_jsonl(
    path: Path, text: str, parse: Callable[[Any], T], wanted: str, example: str
) -> list[T]:
    """Return what `parse` makes of each line of `text`; `path` is its file.

    Raises BadFile for a line that is not JSON, or for which `parse` raises ValueError, TypeError or
    LookupError: then the message is `wanted`, and `example` its hint.
    """
    found = []
    for number, line in enumerate(text.split("\n"), 1):  # not at U+2028, which JSON may hold
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as err:
            raise BadFile(f"{path}, line {number}: not JSON ({err})") from err
        try:
            found.append(parse(data))
        except (ValueError, TypeError, LookupError, RecursionError) as err:
            raise BadFile(f"{path}, line {number}: {wanted}", hint=example) from err
    return found


def check_type(value: Any, kind: type[T]) -> T:
    """Return `value`. Raises TypeError if it is not of the type `kind`."""
    if not isinstance(value, kind):
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value
