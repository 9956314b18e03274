"""Texts for `g4 eval`, as conversations that end with an answer of the model.

    .jsonl   one object per line: {"messages": [{"role", "content"[, "thought"]}]}; assistants are scored
    else     plain text: passages between empty lines, each as the model's answer to one fixed request

Raw text without a chat template says nothing about an instruction-tuned Gemma: sound 31B files were
reported with a perplexity of 1245 to 6279 there (ikawrakow/ik_llama.cpp#1572).
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
# Passages are joined until they are about this long: short ones leave little context to predict
# from.
_PASSAGE_CHARACTERS: Final = 2000


def read_conversations(path: Path) -> list[tuple[Message, ...]]:
    """Return the conversations in the file at `path`, each ending with an assistant's turn.

    Raises FileMissing, or BadFile if the file is not UTF-8, too large, empty or not what its lines
    should be.
    """
    if require_file(path).stat().st_size > _MAX_BYTES:
        raise BadFile(f"{path} is larger than 64 MiB", hint="a few thousand words are enough")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as err:
        raise BadFile(f"{path} is not UTF-8 text (byte {err.start})") from err
    found = _from_jsonl(path, text) if path.suffix == ".jsonl" else _from_plain(text)
    if not found:
        raise BadFile(
            f"{path} holds no text to evaluate on", hint="--text with some paragraphs in it"
        )
    return found


def _from_plain(text: str) -> list[tuple[Message, ...]]:
    passages: list[str] = []
    for paragraph in filter(None, (p.strip() for p in text.replace("\r\n", "\n").split("\n\n"))):
        if passages and len(passages[-1]) + len(paragraph) < _PASSAGE_CHARACTERS:
            passages[-1] += "\n\n" + paragraph
        else:
            passages.append(paragraph)
    return [(Message("user", REQUEST), Message("assistant", passage)) for passage in passages]


def _from_jsonl(path: Path, text: str) -> list[tuple[Message, ...]]:
    found: list[tuple[Message, ...]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except (ValueError, RecursionError) as err:
            raise BadFile(f"{path}, line {number}: not JSON ({err})") from err
        messages = _messages(data)
        if messages is None:
            raise BadFile(
                f'{path}, line {number}: no "messages" with roles and texts',
                hint='{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", ...}]}',
            )
        # Every answer is scored once, with what came before it.
        found += [
            messages[: i + 1] for i, m in enumerate(messages) if m.role == "assistant" and i > 0
        ]
    return found


def _messages(data: Any) -> tuple[Message, ...] | None:
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
