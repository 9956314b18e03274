"""`g4 chats`: what it prints, writes and deletes; hostile content never reaches the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from g4cli.chat import Conversation
from g4cli.cli.main import run
from g4cli.prompt.messages import Media, Message, ToolCall
from g4cli.store.conversations.store import ConversationStore

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\r\x00\x08"

Chats = Callable[..., tuple[int, str, str]]


@pytest.fixture
def chats(capsys: pytest.CaptureFixture[str]) -> Chats:
    """Runs `g4 chats` with some arguments; returns its exit code and what it printed."""

    def call(*args: object) -> tuple[int, str, str]:
        code = run(["chats", *map(str, args)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


def store_chat(*texts: str, system: str = "") -> int:
    with ConversationStore.open() as store:
        id_, parent = store.create(system=system), None
        for number, text in enumerate(texts):
            role = "assistant" if number % 2 else "user"
            parent = store.append(id_, Message(role, text), parent=parent, model="tiny")
        return id_


@pytest.mark.slow
def test_without_a_command_it_lists(chats: Chats) -> None:
    code, out, err = chats()
    assert (code, out) == (0, "")
    assert "no conversations are saved yet" in err
    store_chat("What is GGUF?", "A file format.")
    assert "What is GGUF?" in chats()[1]
    (row,) = json.loads(chats("--json")[1])
    assert (row["id"], row["title"], row["turns"], row["model"]) == (1, "What is GGUF?", 2, "tiny")
    assert json.loads(chats("list", "--json")[1]) == [row]
    assert chats("-q")[1] == "1\n"
    code, _, err = chats("--json", "list")
    assert (code, "g4 chats list --json" in err) == (2, True)


@pytest.mark.slow
def test_search_and_show(chats: Chats) -> None:
    store_chat("What is GGUF?", "A *file format* of llama.cpp.")
    store_chat("other")
    assert [row["id"] for row in json.loads(chats("search", "gguf", "--json")[1])] == [1]
    assert "*file format*" in chats("search", "file format")[1]
    assert "nothing was found" in chats("search", "absent")[2]
    code, out, _ = chats("show", 1)
    assert code == 0
    assert out.startswith(">>> What is GGUF?\nA *file format* of llama.cpp.")
    assert chats("show", "1", "-q")[1] == "A *file format* of llama.cpp.\n"
    assert json.loads(chats("show", "--json")[1])["messages"][0]["content"] == "other"
    code, _, err = chats("show", 77)
    assert (code, "there is no conversation 77" in err, "hint: g4 chats" in err) == (3, True, True)


def test_show_tells_tool_calls_and_results_from_answers(chats: Chats) -> None:
    call = ToolCall("add", {"a": 1})
    turns = (
        Message("user", "Add\n1."),
        Message("assistant", "", tool_calls=(call,)),
        Message("tool", "2\n" * 200, name="add"),
        Message("assistant", "It is 2."),
    )
    with ConversationStore.open() as store:
        id_, parent = store.create(), None
        for message in turns:
            parent = store.append(id_, message, parent=parent)
    shown = chats("show", id_)[1].splitlines()
    assert shown[:3] == [
        ">>> Add",
        "... 1.",
        '{"tool_call": {"name": "add", "arguments": {"a": 1}}}',
    ]
    assert shown[3].startswith("    [result of add: 2\\n2\\n")
    assert shown[3].endswith(" ... (400 characters)]")
    assert shown[4:] == ["It is 2."]


@pytest.mark.slow
def test_export(chats: Chats, tmp_path: Path) -> None:
    store_chat("What is GGUF?", "A file format.")
    assert chats("export", "last")[1].startswith("# What is GGUF?")
    code, _, err = chats("export", 1, tmp_path / "chat.json")
    assert (code, f"wrote {tmp_path}/chat.json" in err) == (0, True)
    text = (tmp_path / "chat.json").read_text()
    assert [turn.content for turn in Conversation.from_text(text).turns][1] == "A file format."
    assert chats("export", 1, tmp_path / "chat.md", "--json")[0] == 0  # --json: of what is printed
    assert (tmp_path / "chat.md").read_text().endswith("A file format.\n")
    code, _, err = chats("export", 1, tmp_path / "chat.md")
    assert (code, "exists already" in err) == (2, True)
    assert chats("export", 1, tmp_path / "chat.md", "--force")[0] == 0


@pytest.mark.slow
def test_rename_and_delete(chats: Chats) -> None:
    store_chat("one")
    store_chat("two")
    assert chats("rename", 1, "New title")[0] == 0
    assert "New title" in chats()[1]
    code, _, err = chats("delete", 1)
    assert (code, "--yes" in err) == (2, True)
    assert chats("delete", 1, 2, "9", "--yes")[0] == 3, "all or nothing"
    assert len(json.loads(chats("--json")[1])) == 2
    assert chats("delete", 1, "last", "--yes")[:2] == (0, "deleted 2 conversations\n")
    assert json.loads(chats("--json")[1]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "args",
    [
        (), ("--json",), ("-q",), ("search", "word"), ("search", "word", "--json"), ("show", 1),
        ("show", 1, "--json"), ("show", 1, "-q"), ("export", 1), ("export", 1, "--format", "json"),
        ("rename", 1, "x\x1b[2J"), ("delete", 1, "--yes"), ("delete", 1, "--yes", "--json"),
    ],
)  # fmt: skip
def test_hostile_content_never_reaches_the_terminal(chats: Chats, args: tuple[object]) -> None:
    id_ = store_chat(system=HOSTILE)
    with ConversationStore.open() as store:
        store.rename(id_, HOSTILE)
        media = (Media("image", Path(f"/{HOSTILE.replace(chr(0), '')}.png")),)
        message = Message("user", f"word {HOSTILE}", thought=HOSTILE, media=media)
        turn = store.append(id_, message, parent=None, model=HOSTILE)
        store.append(id_, Message("assistant", HOSTILE), parent=turn, model=HOSTILE)
    code, out, err = chats(*args)
    assert code == 0
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", out + err)
