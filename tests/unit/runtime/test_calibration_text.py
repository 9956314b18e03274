"""Texts for importance matrices: conversations, passages, and raw text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from g4cli.core.errors import BadFile
from g4cli.core.paths import calibration_path
from g4cli.prompt.messages import ToolCall
from g4cli.runtime.measure.calibration_text import read_calibration_text
from tools.make_calibration import make_chats

CHAT = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]


def write(path: Path, *documents: object) -> Path:
    path.write_text("\n".join(map(json.dumps, documents)) + "\n\n", encoding="utf-8")
    return path


def test_conversations_with_tools(tmp_path: Path) -> None:
    call = {"function": {"name": "find", "arguments": '{"kind": "a"}'}}
    messages = [
        CHAT[0],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "name": "find", "content": "b"},
        {"role": "assistant", "content": "c", "reasoning_content": "because"},
    ]
    path = write(tmp_path / "t.jsonl", {"messages": CHAT}, {"messages": messages, "tools": [{}]})
    text = read_calibration_text(path, raw=False)
    assert [len(c.messages) for c in text.conversations] == [2, 4]
    assert text.name == str(path)
    last = text.conversations[1]
    assert last.tools == ({},)
    assert last.messages[1].tool_calls == (ToolCall("find", {"kind": "a"}),)
    assert (last.messages[2].name, last.messages[3].thought) == ("find", "because")


def test_plain_text_becomes_passages_and_raw_text_stays(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes(b"One.\r\n\r\nTwo.\n\n")
    (passage,) = read_calibration_text(path, raw=False).conversations
    assert [m.content for m in passage.messages][1] == "One.\n\nTwo."
    # llama.cpp's -f removes one newline at the end, and changes nothing else.
    assert read_calibration_text(path, raw=True).raw == "One.\r\n\r\nTwo.\n"


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"messages": "x"},
        {"messages": CHAT[:1]},
        {"messages": [*CHAT, CHAT[0]]},
        {"messages": [{"role": "robot", "content": "x"}, CHAT[1]]},
        {"messages": [CHAT[0], {"role": "assistant", "content": ""}]},
        {"messages": [CHAT[0], {"role": "assistant", "content": 3}]},
        {"messages": CHAT, "tools": ["x"]},
        {"messages": [CHAT[0], {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]},
        {"messages": [CHAT[0], {"role": "assistant", "tool_calls": "x"}, CHAT[1]]},
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": "["}}],
                },
                CHAT[1],
            ]
        },
    ],
)
def test_lines_that_are_no_conversation(document: object, tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", {"messages": CHAT}, document)
    with pytest.raises(BadFile, match=r"line 2: no conversation that ends with an answer"):
        read_calibration_text(path, raw=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b" \n", "contains no text"), (b"\xff", "not UTF-8"), (b"{", "line 1: not JSON")],
)
def test_files_that_are_no_text(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(data)
    with pytest.raises(BadFile, match=message):
        read_calibration_text(path, raw=False)


def test_the_bundled_text_is_what_its_generator_writes() -> None:
    lines = calibration_path().read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == make_chats()
    assert 150_000 < calibration_path().stat().st_size < 220_000


def test_the_bundled_text_holds_all_kinds() -> None:
    text = read_calibration_text(calibration_path(), raw=False)
    assert len(text.conversations) > 200
    # Any beginning is a sample of all of them.
    head = text.conversations[:60]
    answers = "\n".join(m.content for c in head for m in c.messages if m.role == "assistant")
    assert any(c.tools for c in head)
    assert all(mark in answers for mark in ("```", '"quantity":', "|---|"))
    assert any("\u0370" < letter < "\uffff" and letter.isalpha() for letter in answers)
