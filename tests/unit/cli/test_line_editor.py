"""What Tab completes in a chat, and keys that were pressed before the editor reads them."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterable
from dataclasses import replace

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from g4cli.cli.chat.line_editor import CommandCompleter, take_end_of_input
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
