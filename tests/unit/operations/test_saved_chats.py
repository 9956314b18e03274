"""Conversations in files and how a chat is recorded: branches, privacy, partial answers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g4cli.chat import Conversation, Finished, Reply, View
from g4cli.core import hashing
from g4cli.core.errors import BadFile, FileMissing, NotFound, UsageError
from g4cli.core.files import is_pipe, open_file
from g4cli.operations.chat.recording import ChatRecorder
from g4cli.operations.chat.saved import (
    find_changed_media,
    find_chat,
    find_outside_media,
    load_chat_file,
    load_stored_chat,
    make_conversation,
    may_replace,
    save_chat,
)
from g4cli.prompt.messages import Media, Message, ToolCall
from g4cli.prompt.reply import AnswerText, ThoughtText
from g4cli.store.conversations.database import conversations_path
from g4cli.store.conversations.store import ConversationStore


class Messages:
    """A reporter that remembers its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class NoView(View):
    def show(self, event: Any) -> None: ...


@pytest.fixture
def recorder() -> Iterator[ChatRecorder]:
    made = ChatRecorder(Messages(), "tiny", lambda: {"temp": 0.0}, interval_s=0)  # type: ignore[arg-type]
    yield made
    made.close()


def asked(text: str) -> Conversation:
    conversation = Conversation()
    conversation.ask(text)
    return conversation


def stored_texts(conversation: Conversation) -> list[str]:
    assert conversation.stored_id is not None
    with ConversationStore.open() as store:
        return [message.content for message in store.load(conversation.stored_id).messages]


def test_undo_edit_and_retry_make_branches(recorder: ChatRecorder) -> None:
    conversation = asked("one")
    recorder.save(conversation)
    conversation.answer(Message("assistant", "1"))
    recorder.save(conversation, Reply.interrupted())
    assert stored_texts(conversation) == ["one", "1"]
    conversation.undo()
    conversation.ask("ONE")
    conversation.answer(Message("assistant", "I"))
    recorder.save(conversation)
    assert stored_texts(conversation) == ["ONE", "I"]
    conversation.undo()
    recorder.save(conversation)
    assert stored_texts(conversation) == []
    with ConversationStore.open() as store:
        turns = store.load_turns(conversation.stored_id or 0)
        assert [turn.message.content for turn in turns] == ["one", "1", "ONE", "I"]
        assert (turns[1].model, turns[1].finish_reason) == ("tiny", "interrupted")
        assert turns[1].settings == {"temp": 0.0}


def test_a_conversation_is_continued_where_it_was(recorder: ChatRecorder) -> None:
    conversation = asked("one")
    conversation.answer(Message("assistant", "1"))
    recorder.save(conversation)
    with ConversationStore.open() as store:
        again = make_conversation(load_stored_chat(store, "last"))
    assert again.turns == conversation.turns
    again.system = "S"
    again.ask("two")
    recorder.save(again)
    assert again.stored_id == conversation.stored_id
    assert stored_texts(again) == ["one", "1", "two"]
    with ConversationStore.open() as store:
        assert store.load(again.stored_id or 0).summary.system == "S"
        assert len(store.list_conversations()) == 1
        for name, found in (("1", 1), ("last", 1), ("nowhere", None), ("9" * 40, None)):
            assert find_chat(store, name) == found
        with pytest.raises(NotFound, match="nowhere"):
            load_stored_chat(store, "nowhere")


def test_a_partial_answer_is_saved_and_becomes_the_whole_one(
    recorder: ChatRecorder,
) -> None:
    conversation = asked("one")
    recorder.save(conversation)
    view = recorder.watch(NoView(), conversation)
    view.show(ThoughtText("hm"))
    view.show(AnswerText("Hel"))
    assert stored_texts(conversation) == ["one", "Hel"]
    view.show(AnswerText("lo"))
    view.show(Finished(Reply.interrupted()))
    conversation.answer(Message("assistant", "Hello", thought="hm"))
    recorder.save(conversation, Reply.interrupted())
    with ConversationStore.open() as store:
        _, said = store.load_turns(conversation.stored_id or 0)
    assert (said.message.content, said.message.thought) == ("Hello", "hm")
    assert said.finish_reason == "interrupted"


def test_the_answer_after_a_call_does_not_replace_the_call(recorder: ChatRecorder) -> None:
    conversation = asked("one")
    recorder.save(conversation)
    recorder.watch(NoView(), conversation).show(ThoughtText("hm"))
    call = Message("assistant", "", tool_calls=(ToolCall("add", {"a": 1}),))
    conversation.answer(call)
    result = Message("tool", "2", name="add")
    conversation.answer(result)
    recorder.watch(NoView(), conversation).show(AnswerText("It"))
    assert stored_texts(conversation) == ["one", "", "2", "It"]
    answer = Message("assistant", "It is 2.")
    conversation.answer(answer)
    recorder.save(conversation, replace(Reply.interrupted(), finish_reason="stop"))
    with ConversationStore.open() as store:
        turns = store.load_turns(conversation.stored_id or 0)
    assert [turn.message for turn in turns[1:]] == [call, result, answer]
    assert [turn.finish_reason for turn in turns] == ["", "", "", "stop"]


def test_an_answer_that_a_signal_ends_is_not_emptied(
    recorder: ChatRecorder,
) -> None:
    conversation = asked("one")
    recorder.save(conversation)
    recorder.watch(NoView(), conversation).show(AnswerText("Hel"))
    conversation.answer(Message("assistant", ""))
    recorder.save(conversation)
    assert stored_texts(conversation) == ["one", "Hel"]


def test_nothing_is_saved_of_an_empty_or_private_conversation(recorder: ChatRecorder) -> None:
    recorder.save(Conversation("system"))
    private = ChatRecorder(Messages(), "tiny", dict, private=True)  # type: ignore[arg-type]
    conversation = asked("secret")
    private.save(conversation)
    private.watch(NoView(), conversation).show(AnswerText("x"))
    private.save(conversation)
    assert not conversations_path().exists()


def test_a_folder_that_cannot_be_written_is_reported_once() -> None:
    conversations_path().parent.parent.mkdir(parents=True, exist_ok=True)
    conversations_path().parent.write_text("a file in the place of the folder")
    messages = Messages()
    recorder = ChatRecorder(messages, "tiny", dict)  # type: ignore[arg-type]
    for _ in range(2):
        recorder.save(asked("x"))
    assert len(messages.warnings) == 1
    assert "not saved" in messages.warnings[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders")
def test_a_pipe_in_the_place_of_an_image_is_not_read(
    recorder: ChatRecorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_no_pipe(path: Path, **kwargs: Any) -> Any:
        assert not is_pipe(path)  # opening it would wait for ever
        return open_file(path, **kwargs)

    monkeypatch.setattr(hashing, "open_file", open_no_pipe)
    pipe, image = tmp_path / "pipe", tmp_path / "image"
    os.mkfifo(pipe)
    image.write_bytes(b"before")
    recorder.save(ask_about(pipe, image))
    image.unlink()
    os.mkfifo(image)
    with ConversationStore.open() as store:
        stored = load_stored_chat(store, "last")
        assert stored.turns[0].media_sha256[0] == ""
        assert find_changed_media(stored) == (image,)


def test_media_that_changed_are_found(recorder: ChatRecorder, tmp_path: Path) -> None:
    same, changed, gone = (tmp_path / name for name in ("same", "changed", "gone"))
    for path in (same, changed, gone):
        path.write_bytes(b"before")
    recorder.save(ask_about(same, changed, gone))
    changed.write_bytes(b"after")
    gone.unlink()
    with ConversationStore.open() as store:
        assert find_changed_media(load_stored_chat(store, "last")) == (changed, gone)


def test_a_chat_in_a_file(tmp_path: Path) -> None:
    save_chat(asked("x"), tmp_path / "mine.json")
    assert load_chat_file(tmp_path / "mine.json").turns == asked("x").turns
    assert load_chat_file(tmp_path / "mine.json").stored_id is None
    with pytest.raises(FileMissing, match="no such file"):
        load_chat_file(Path("nowhere"))
    (tmp_path / "text").write_text("text")
    with pytest.raises(BadFile):
        load_chat_file(tmp_path / "text")


def test_a_chat_in_a_file_keeps_what_utf8_lacks(tmp_path: Path) -> None:
    chat = ask_about("/tmp/caf\udce9.png")
    chat.ask("hi \ud83d")
    save_chat(chat, tmp_path / "chat.json")
    assert load_chat_file(tmp_path / "chat.json").turns == chat.turns


def test_what_may_be_replaced(tmp_path: Path) -> None:
    assert may_replace(tmp_path / "new.json")
    save_chat(asked("x"), tmp_path / "chat.json")
    assert may_replace(tmp_path / "chat.json")
    (tmp_path / "notes.md").write_text("precious")
    assert not may_replace(tmp_path / "notes.md")
    for name, match in (
        ("", "is a directory"),
        ("no/chat.json", "no such folder"),
        ("x" * 300, "cannot be written: File name too long"),
        ("x" * 300 + "/chat.json", "cannot be written: File name too long"),
        ("notes.md/chat.json", "cannot be written: Not a directory"),
        ("nul\0", "cannot be written"),
    ):
        with pytest.raises(UsageError, match=match):
            may_replace(tmp_path / name)


def test_the_history_of_questions_is_private(tmp_path: Path) -> None:
    from g4cli.cli.chat.line_editor import open_history

    open_history(tmp_path / "state" / "history").append_string("secret")
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "history").stat().st_mode & 0o777 == 0o600


def ask_about(*paths: Path | str) -> Conversation:
    conversation = Conversation()
    conversation.ask("what is it?", [Media("image", Path(path)) for path in paths])
    return conversation


def test_files_outside_the_folder_of_a_chat_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "chat"
    folder.mkdir()
    (folder / "link.png").symlink_to(tmp_path / "private.png")
    strange = ["/etc/passwd", "../private.png", "link.png", "nul\0.png"]
    save_chat(ask_about("beside.png", folder / "x/in.png", *strange), folder / "c.json")
    loaded = load_chat_file(folder / "c.json")
    assert [item.path for item in loaded.turns[0].media][:2] == [
        folder / "beside.png",
        folder / "x/in.png",
    ]
    outside = find_outside_media(loaded, folder / "c.json")
    assert outside == tuple(folder / path for path in strange)
    link = tmp_path / "link.json"
    link.symlink_to(folder / "c.json")
    assert load_chat_file(link).turns == loaded.turns
    assert find_outside_media(load_chat_file(link), link) == outside
