"""Drawings in answers: g4 chat --svg, what a conversation says of them, and /svg."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import ValidationError

from g4cli.chat import Conversation, Reply
from g4cli.cli.chat.controller import ChatController
from g4cli.cli.chat.display import ChatDisplay
from g4cli.cli.chat.oneshot import answer_once
from g4cli.cli.chat.slash_commands import run_command
from g4cli.cli.output import Output
from g4cli.core.errors import UsageError
from g4cli.core.png import decode_png
from g4cli.operations.chat.recording import ChatRecorder
from tests.support.run.command import g4
from tests.support.schemas import validate_output

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="4" height="4"/></svg>'
BROKEN = SVG.replace('width="4"', 'width="4" width="4"')
ANSWER = f"Here you are:\n```svg\n{BROKEN}\n```"


class OneAnswer:
    """A session whose model always says the same."""

    def __init__(self, text: str) -> None:
        self._reply = replace(Reply.interrupted(), text=text, finish_reason="stop")
        self.conversation = Conversation()
        self.request = SimpleNamespace(model="x", image=(), audio=(), n_probs=None)
        self.engine: Any = SimpleNamespace(drafted=None, has_ended=False, path=Path("x.gguf"))
        self.load_s, self.has_grammar = 0.0, False

    def describe_settings(self) -> dict[str, Any]:
        return {"temp": 1.0, "seed": 7}

    def run_turn(self, _view: object) -> Reply:
        self.conversation.answer(self._reply.message())
        return self._reply


def unsaved() -> ChatRecorder:
    """Return the recorder of a chat that is not saved."""
    return ChatRecorder(Output(), "x", dict, private=True)


def answer(text: str, path: Path, mode: Any = "human") -> int:
    session: Any = OneAnswer(text)
    return answer_once(Output(mode), session, "Draw.", ChatDisplay(drawing=path), unsaved())


def converse(text: str) -> ChatController:
    session: Any = OneAnswer(text)
    chat = ChatController(Output(), session, ChatDisplay(), unsaved())
    chat.ask("Draw.")
    return chat


@pytest.mark.slow
def test_the_repaired_drawing_of_an_answer_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(ANSWER, tmp_path / "a.svg") == 0
    assert (tmp_path / "a.svg").read_text() == SVG
    assert "repaired" in capsys.readouterr().err
    assert answer(ANSWER, tmp_path / "a.png") == 0
    assert decode_png((tmp_path / "a.png").read_bytes()).width == 8


def test_an_answer_without_a_drawing_exits_with_8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer("I cannot draw.", tmp_path / "a.svg") == 8
    assert not (tmp_path / "a.svg").exists()
    assert "not written" in capsys.readouterr().err


def test_json_has_the_grade_as_the_schema_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(ANSWER, tmp_path / "a.svg", "json") == 0
    document = json.loads(capsys.readouterr().out)
    validate_output(document, "chat")
    rules = [finding["rule"] for finding in document["svg"]["findings"]]
    assert rules == ["text-around", "duplicate-attribute"]
    del document["svg"]["stages"]
    with pytest.raises(ValidationError, match="stages"):
        validate_output(document, "chat")


@pytest.mark.parametrize(
    ("name", "words"), [("a.txt", "must end with .svg or .png"), ("b.svg", "exists")]
)
def test_a_wrong_target_is_refused_before_a_model_is_looked_for(
    tmp_path: Path, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.svg").write_text("mine")
    code, _, err = g4(capsys, "chat", "none-such", "-p", "Draw.", "--svg", tmp_path / name)
    assert code == 2
    assert words in err


def test_a_conversation_says_what_it_found_and_saves_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = converse(ANSWER)
    assert "/svg" in capsys.readouterr().err
    run_command(chat, f"/svg {tmp_path / 'a.svg'}")
    assert (tmp_path / "a.svg").read_text() == SVG
    run_command(chat, "/svg")
    assert "cannot show pictures; to write a PNG: /svg OUT.png" in capsys.readouterr().err


def test_a_drawing_that_does_not_work_is_not_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = converse('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"></svg>')
    run_command(chat, f"/svg {tmp_path / 'a.svg'}")
    assert "a.svg was not written: " in capsys.readouterr().err
    assert not (tmp_path / "a.svg").exists()


def test_a_conversation_without_a_drawing_says_nothing_of_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    chat = converse("Hello.")
    assert "svg" not in capsys.readouterr().err
    with pytest.raises(UsageError, match="no answer contains a drawing"):
        run_command(chat, "/svg")
