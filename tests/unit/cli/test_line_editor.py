"""What Tab completes in a chat."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from g4cli.cli.chat.line_editor import CommandCompleter
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
