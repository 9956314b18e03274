"""What /model takes, and what `g4 chat` hands on to the next model."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from g4cli.chat import Conversation, Reply
from g4cli.cli.chat import repl, resume, run, slash_commands
from g4cli.cli.chat.controller import ChatController
from g4cli.cli.chat.display import ChatDisplay
from g4cli.cli.chat.oneshot import answer_once
from g4cli.cli.output import Output
from g4cli.cli.settings import Origin
from g4cli.core.errors import ContextFull, Interrupted, UsageError
from g4cli.core.paths import config_path
from g4cli.operations.chat import opening
from g4cli.operations.chat.request import ChatRequest
from g4cli.prompt.messages import Media, Message


def test_the_next_model_gets_settings_and_media_that_were_not_asked_about(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[ChatRequest] = []

    @contextmanager
    def open_session(request: ChatRequest, _out: Any) -> Any:
        opened.append(request)
        yield SimpleNamespace(conversation=Conversation(), describe_settings=dict, think="off")

    waiting = [Media("image", Path("/b.png")), Media("audio", Path("/c.wav"))]
    ends: list[Any] = [("other", waiting), ("third", []), (None, [])]

    def run_conversation(chat: ChatController) -> None:
        shown.append(chat.display.thoughts)
        chat.next_model, chat.media = ends.pop(0)
        chat.session.think = "low"
        chat.display = replace(chat.display, thoughts="fold")

    shown: list[str] = []
    monkeypatch.setattr(opening, "open_session", open_session)
    monkeypatch.setattr(repl, "run_conversation", run_conversation)
    request = ChatRequest(model="one", image=(Path("a.png"),))
    assert run._run_sessions(Output(), request, None, ChatDisplay(private=True), None) == 0
    assert [item.model for item in opened] == ["one", "other", "third"]
    assert [[*map(str, item.image)] for item in opened] == [["a.png"], ["/b.png"], []]
    assert [[*map(str, item.audio)] for item in opened] == [[], ["/c.wav"], []]
    assert [item.think for item in opened] == ["off", "low", "low"]
    assert shown == ["show", "fold", "fold"]


class EditedChat:
    """What a line of input is given to; the encoding of a sound is stopped by Ctrl-C."""

    def __init__(self) -> None:
        self.edited, self.prefill = Message("user", "before"), ""
        self.added: list[Path] = []
        self.asked: list[tuple[str, Message | None]] = []

    def add_media(self, kind: str, path: Path, **_: Any) -> bool:
        self.added.append(path)
        return kind == "image"

    def ask_with_media(self, text: str, *, edited: Message | None) -> None:
        self.asked.append((text, edited))


def test_a_question_whose_dropped_file_was_stopped_is_not_asked(tmp_path: Path) -> None:
    image, sound = tmp_path / "a.png", tmp_path / "b.wav"
    image.touch()
    sound.touch()
    chat = EditedChat()
    before = chat.edited
    repl._run_line(cast("ChatController", chat), f"{image} {sound} what is it?")
    assert (chat.asked, chat.added) == ([], [image, sound])
    assert (chat.prefill, chat.edited) == ("what is it?", before)
    repl._run_line(cast("ChatController", chat), f"{image} {chat.prefill}")
    assert chat.asked == [("what is it?", before)]


@pytest.mark.parametrize("pasted", [r"'{}/a\ b.png'", r"{}/a\\\ b.png"])
def test_a_pasted_path_is_unquoted_once(tmp_path: Path, pasted: str) -> None:
    image = tmp_path / r"a\ b.png"
    image.touch()
    encoded = SimpleNamespace(n_tokens=1)
    session: Any = SimpleNamespace(require_encoder=lambda: None, encode_media=lambda *_: [encoded])
    chat = ChatController(Output(), session, ChatDisplay(), cast("Any", None))
    repl._run_line(chat, pasted.format(tmp_path))
    slash_commands.run_command(chat, f"/image {pasted.format(tmp_path)}")
    assert chat.media == [Media("image", image)] * 2


def test_a_question_that_fails_leaves_the_one_that_it_was_to_replace() -> None:
    def run_turn(_view: Any) -> Reply:
        raise ContextFull("too long")

    conversation = Conversation()
    conversation.ask("Hi")
    conversation.answer(Message("assistant", "Hello"))
    before = conversation.turns[:]
    session = SimpleNamespace(
        conversation=conversation, run_turn=run_turn, engine=SimpleNamespace(has_ended=False)
    )
    recorder = SimpleNamespace(save=lambda *_: None, watch=lambda view, _: view)
    chat = ChatController(
        Output("quiet"), cast("Any", session), ChatDisplay(), cast("Any", recorder)
    )
    with pytest.raises(ContextFull):
        slash_commands.run_command(chat, "/retry")
    assert conversation.turns == before
    slash_commands.run_command(chat, "/edit")
    with pytest.raises(ContextFull):
        chat.ask_with_media("a longer question", edited=chat.edited)
    assert conversation.turns == before
    with pytest.raises(ContextFull):
        chat.ask_with_media("another one")
    assert conversation.turns == before


@pytest.mark.parametrize("name", ["edit", "clear", "retry", "quit"])
def test_a_text_after_a_command_that_takes_none_is_not_lost(name: str) -> None:
    with pytest.raises(UsageError, match=f"/{name} takes no text after it"):
        slash_commands.run_command(cast("Any", None), f"/{name} What is GGUF?")


@pytest.mark.parametrize("word", ["work", "'/a b.gguf'"])
def test_the_model_may_be_an_alias_or_a_quoted_path(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config_path().parent.mkdir(parents=True, exist_ok=True)
    config_path().write_text('[aliases]\nwork = "/a b.gguf"')
    prepared: list[str] = []
    monkeypatch.setattr(
        slash_commands, "prepare_model", lambda name, *_, **__: prepared.append(name)
    )
    session = SimpleNamespace(request=ChatRequest(model="one"))
    chat: Any = SimpleNamespace(session=session, out=Output(), next_model=None)
    slash_commands.run_command(chat, f"/model {word}")
    assert [chat.next_model] == prepared == ["/a b.gguf"]


@pytest.mark.parametrize("mode", ["human", "json"])
def test_an_answer_that_was_stopped_before_its_code_says_nothing_of_code(
    mode: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    session = SimpleNamespace(
        conversation=Conversation(),
        request=ChatRequest(model="one"),
        engine=SimpleNamespace(drafted=None),
        run_turn=lambda _: Reply.interrupted(),
        describe_settings=dict,
        load_s=0.0,
    )
    recorder = SimpleNamespace(save=lambda *_: None, watch=lambda view, _: view)
    display = ChatDisplay(only_code=True)
    code = answer_once(Output(mode), cast("Any", session), "Hi", display, cast("Any", recorder))
    assert code == Interrupted.exit_code
    assert ('"finish_reason": "interrupted"' in capsys.readouterr().out) == (mode == "json")


def test_a_folder_as_the_output_is_refused_before_the_model_answers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"):
        run._check_output("Hi", ChatRequest(model="one"), ChatDisplay(output=tmp_path), Output())


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"model": "config", "system": "environment"}, ("stored.gguf", "pirate")),
        ({"model": "argument", "system": "option"}, ("given.gguf", "brief")),
        ({"model": "config", "system": "preset"}, ("stored.gguf", "brief")),
    ],
)
def test_settings_do_not_change_what_a_conversation_was_held_with(
    sources: dict[str, Any],
    expected: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("stored.gguf", "given.gguf"):
        Path(name).write_bytes(b"GGUF")
    monkeypatch.setattr(resume, "resume_chat", lambda *_: (Conversation("pirate"), "stored.gguf"))
    request, display = run._choose_conversation(
        Output(),
        ChatRequest(model="given.gguf", system="brief"),
        ChatDisplay(origins={name: Origin(source, "") for name, source in sources.items()}),
        "last",
    )
    assert request.conversation is not None
    assert (request.model, request.conversation.system) == expected
    is_stored = request.model == "stored.gguf"
    assert display.origins["model"].source == ("conversation" if is_stored else "argument")
