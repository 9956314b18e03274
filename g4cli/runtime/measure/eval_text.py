"""Texts for `g4 eval`, as conversations that end with an answer of the model.

    .jsonl   one conversation per line: {"messages": [{"role", "content"[, "thought"]}]};
             every turn of the assistant is scored
    else     plain text: passages between empty lines, each scored as the answer to one request

Raw text without a chat template says nothing about an instruction-tuned Gemma: perplexities of 1245
to 6279 were reported for intact 31B files (ikawrakow/ik_llama.cpp#1572).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import BadFile
from g4cli.core.files import require_file
from g4cli.prompt import Message

REQUEST: Final = "Write a passage of text."
_MAX_BYTES: Final = 64 * 1024**2
_ROLES: Final = ("system", "user", "assistant")
# Passages are joined up to about this length: tokens of short ones have little context.
_PASSAGE_CHARACTERS: Final = 2000


def read_conversations(path: Path) -> list[tuple[Message, ...]]:
    """Return the conversations in the file at `path`, each ending with an assistant's turn.

    Raises FileMissing, or BadFile if the file is too large, empty, not UTF-8, or a line of a .jsonl
    file is not a conversation.
    """
    text = read_text_file(path)
    conversations = _read_jsonl(path, text) if path.suffix == ".jsonl" else split_passages(text)
    if not conversations:
        raise BadFile(f"{path} holds no text to evaluate on", hint="--text FILE with paragraphs")
    return conversations


def read_text_file(path: Path) -> str:
    """Return the text in the file at `path`.

    Raises FileMissing, or BadFile if it is too large or not UTF-8.
    """
    if require_file(path).stat().st_size > _MAX_BYTES:
        raise BadFile(f"{path} is larger than 64 MiB", hint="a few thousand words are enough")
    try:
        return path.read_bytes().decode("utf-8")
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


def _read_jsonl(path: Path, text: str) -> list[tuple[Message, ...]]:
    conversations: list[tuple[Message, ...]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as err:
            raise BadFile(f"{path}, line {number}: not JSON ({err})") from err
        messages = _parse_messages(data)
        if messages is None:
            raise BadFile(
                f'{path}, line {number}: no "messages" with "role" and "content"',
                hint='{"messages": [{"role": "user", "content": "..."}, ...]}',
            )
        # Every answer is scored once, with what came before it.
        conversations += [
            messages[: i + 1] for i, m in enumerate(messages) if m.role == "assistant" and i > 0
        ]
    return conversations


def _parse_messages(data: Any) -> tuple[Message, ...] | None:
    rows = data.get("messages") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        return None
    messages = []
    for row in rows:
        if (
            not isinstance(row, dict)
            or row.get("role") not in _ROLES
            or not isinstance(row.get("content"), str)
        ):
            return None
        thought = row.get("thought", row.get("reasoning_content", ""))
        messages.append(
            Message(row["role"], row["content"], thought if isinstance(thought, str) else "")
        )
    return tuple(messages)
