"""Texts to evaluate on."""

from __future__ import annotations

import io
import json
import os
import threading
from pathlib import Path

import pytest

from g4cli.chat import Conversation
from g4cli.core.errors import BadFile, FileMissing
from g4cli.prompt.messages import Message, ToolCall
from g4cli.runtime.measure.eval_text import REQUEST, read_conversations


def test_every_answer_of_a_chat_is_scored_once(tmp_path: Path) -> None:
    chat = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d", "thought": "t"},
    ]
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps({"id": 1, "messages": chat}) + "\n\n")
    first, second = read_conversations(path)
    assert [m.content for m in first] == ["s", "a", "b"]
    assert [m.content for m in second] == ["s", "a", "b", "c", "d"]
    assert second[-1].thought == "t"


def test_a_line_of_jsonl_ends_at_a_line_feed_alone(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\u2028\x85c"}]
    path = tmp_path / "t.jsonl"
    text = json.dumps({"messages": chat}, ensure_ascii=False) + "\r\n"
    path.write_text(text, encoding="utf-8-sig")  # with a byte order mark, as on Windows
    ((_, answer),) = read_conversations(path)
    assert answer.content == "b\u2028\x85c"


def test_plain_text_becomes_answers_to_one_request(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text("One.\nStill one.\r\n\r\nTwo.\n\n\n" + "x" * 1996 + "\n\nLast.")
    texts = []
    for user, answer in read_conversations(path):
        assert (user.role, user.content, answer.role) == ("user", REQUEST, "assistant")
        texts.append(answer.content)
    assert texts == ["One.\nStill one.\n\nTwo.", "x" * 1996, "Last."]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("t.txt", b"", "no text"),
        ("t.txt", b" \n\n ", "no text"),
        ("t.txt", b"\xff\xfe", "not UTF-8"),
        ("t.jsonl", b"{", "line 1: not JSON"),
        ("t.jsonl", b"[" * 100_000, "line 1: not JSON"),
        ("t.jsonl", b'{"messages": []}\n[1]', 'line 2: no "messages"'),
        ("t.jsonl", b'{"messages": [{"role": "robot", "content": "x"}]}', "line 1"),
        ("t.jsonl", b'{"messages": [{"role": "user", "content": 7}]}', "line 1"),
        ("t.jsonl", b'{"messages": [{"role": "user", "content": "only a question"}]}', "no text"),
    ],
)
def test_bad_texts(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadFile, match=message):
        read_conversations(tmp_path / name)


def test_missing_text(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_conversations(tmp_path / "nowhere.txt")


def test_a_saved_chat_is_a_conversation(tmp_path: Path) -> None:
    chat = Conversation("Be short.", [Message("user", "a"), Message("assistant", "b")])
    path = tmp_path / "chat.json"
    path.write_text(chat.to_text())
    (messages,) = read_conversations(path)
    assert [m.content for m in messages] == ["Be short.", "a", "b"]
    # After a call, the model waits for its result: the end of its turn is no token of its own.
    call = Message("assistant", "", tool_calls=(ToolCall("f", {}),))
    result = Message("tool", "1", name="f")
    chat = Conversation("", [Message("user", "a"), call, result, Message("assistant", "b")])
    path.write_text(chat.to_text())
    (messages,) = read_conversations(path)
    assert messages[-1].content == "b"


@pytest.mark.parametrize("text", ["One.\n", '{"messages": [{"role": "user", "content": "a"}, %s]}'])
def test_standard_input_and_pipes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """The text itself tells what it is: a pipe has no suffix."""
    text = text.replace("%s", '{"role": "assistant", "content": "One."}')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    piped = read_conversations(Path("-"))
    assert [m[-1].content for m in piped] == ["One."]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(text,))
    writer.start()
    assert read_conversations(pipe) == piped
    writer.join()
