"""What Tab completes in a chat, and keys that were pressed before the editor reads them."""

from __future__ import annotations

import os
import select
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from g4cli.cli.chat.line_editor import (
    CommandCompleter,
    LineEditor,
    open_history,
    take_end_of_input,
)
from g4cli.cli.chat.slash_commands import COMMANDS
from g4cli.cli.completion import complete_conversation, complete_pulled


def complete(text: str) -> list[str]:
    def find(word: str) -> Iterable[tuple[str, str]]:
        known = {"tiny": "pulled", "e2b": "pulled", "12": "a chat"}
        return [(name, kind) for name, kind in known.items() if name.startswith(word)]

    commands = [replace(c, complete=find if c.complete else None) for c in COMMANDS]
    found = CommandCompleter(commands).get_completions(Document(text), CompleteEvent())
    return [completion.text for completion in found]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("/und", ["undo"]),
        ("/nosuch", []),
        ("/think s", ["show"]),
        ("/model ti", ["tiny"]),
        ("/load 1", ["12"]),
        ("/undo x", []),
        ("hello", []),
    ],
)
def test_commands_choices_models_and_chats(text: str, found: list[str]) -> None:
    assert complete(text) == found


def test_models_and_chats_are_those_of_the_store() -> None:
    found = {c.name: c.complete for c in COMMANDS if c.complete}
    assert found == {"model": complete_pulled, "load": complete_conversation}


@pytest.mark.requires_linux
@pytest.mark.parametrize(
    ("keys", "is_end"),
    [(b"\x04", True), (b"\x04\x04", True), (b"yes\n", False), (b"yes\n\x04", False)],
)
def test_ctrl_d_before_the_editor_reads(
    keys: bytes, is_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyboard, terminal = os.openpty()
    with open(terminal, "rb", buffering=0) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not take_end_of_input(), "no key was pressed"
        os.write(keyboard, keys)
        assert select.select([terminal], [], [], 60)[0]
        assert take_end_of_input() is is_end
        if not is_end:
            assert os.read(terminal, 100) == b"yes\n"
        os.close(keyboard)


@pytest.fixture
def keyboard() -> Iterator[PipeInput]:
    with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):
        yield pipe


@pytest.mark.parametrize(
    ("keys", "read"),
    [
        ("hi\r", "hi"),
        ("\x12hel\r\r", "hello world"),
        ("\x12hel\r!\r", "!hello world"),
        ("mine\x12hel\x03\r", "mine"),
        ("mine\x03yours\r", "yours"),
    ],
    ids=["send", "search", "search-edit", "search-ctrl-c", "ctrl-c"],
)
def test_enter_and_ctrl_c_end_the_search_of_ctrl_r_first(
    keys: str, read: str, keyboard: PipeInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("g4cli.cli.chat.line_editor.take_end_of_input", lambda: False)
    (tmp_path / "history").write_text("\n# 2026-11-28 12:00:00\n+hello world\n")
    notices: list[str] = []
    editor = LineEditor(COMMANDS, tmp_path / "history", notices.append)
    keyboard.send_text(keys)
    keyboard.close()  # if the keys do not send a question, this ends the editor
    assert (editor.read_question(), notices) == (read, [])


def test_a_chat_goes_on_if_a_line_cannot_be_remembered(tmp_path: Path) -> None:
    history = open_history(tmp_path / "state" / "history")
    history.append_string("caf\udce9")  # Latin-1 that was pasted into a terminal with UTF-8
    assert (tmp_path / "state" / "history").read_text().endswith("+caf?\n")
    shutil.rmtree(tmp_path / "state")
    history.append_string("and now?")
    assert history.get_strings() == ["caf\udce9", "and now?"]
