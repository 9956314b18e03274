"""Kept conversations: a file for each, private, found again by name, never written over another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from g4cli.chat import Conversation
from g4cli.core.errors import BadFile, FileMissing, UsageError
from g4cli.operations.chat.saved import (
    autosave_chat,
    chats_dir,
    find_outside_media,
    list_chat_names,
    load_chat,
    may_replace,
    save_chat,
)
from g4cli.prompt.messages import Media


def asked(text: str) -> Conversation:
    conversation = Conversation()
    conversation.ask(text)
    return conversation


def test_each_has_a_file_of_its_own_and_goes_on_in_it() -> None:
    one, two = asked("one"), asked("two")
    autosave_chat(one)
    autosave_chat(two)
    one.ask("more")
    autosave_chat(one)
    assert len({one.name, two.name}) == len(list_chat_names()) == 2
    assert load_chat(Path(one.name)).turns == one.turns
    assert load_chat(Path(two.name)).turns == two.turns
    assert load_chat(Path(one.name)).name == one.name


def test_last_is_the_one_written_last() -> None:
    for number in range(3):
        conversation = asked(str(number))
        autosave_chat(conversation)
        os.utime(chats_dir() / f"{conversation.name}.json", ns=(0, (number + 1) % 3 * 10**9))
    wanted = max(chats_dir().iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert load_chat(Path("last")).name == list_chat_names()[0] == wanted.stem


def test_they_are_private() -> None:
    autosave_chat(asked("secret"))
    (path,) = chats_dir().iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert chats_dir().stat().st_mode & 0o777 == 0o700


def test_a_conversation_without_turns_is_not_kept() -> None:
    autosave_chat(Conversation("system"))
    assert list_chat_names() == []
    with pytest.raises(FileMissing):
        load_chat(Path("last"))


def test_a_file_of_the_user_is_no_kept_one(tmp_path: Path) -> None:
    save_chat(asked("x"), tmp_path / "mine.json")
    assert load_chat(tmp_path / "mine.json").name == ""
    with pytest.raises(FileMissing, match="no such file"):
        load_chat(Path("nowhere"))
    (tmp_path / "text").write_text("text")
    with pytest.raises(BadFile):
        load_chat(tmp_path / "text")


def test_what_may_be_replaced(tmp_path: Path) -> None:
    assert may_replace(tmp_path / "new.json")
    save_chat(asked("x"), tmp_path / "chat.json")
    assert may_replace(tmp_path / "chat.json")
    (tmp_path / "notes.md").write_text("precious")
    assert not may_replace(tmp_path / "notes.md")
    assert not may_replace(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        may_replace(tmp_path / "no" / "chat.json")


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
    loaded = load_chat(folder / "c.json")
    assert [item.path for item in loaded.turns[0].media][:2] == [
        folder / "beside.png",
        folder / "x/in.png",
    ]
    outside = find_outside_media(loaded, folder / "c.json")
    assert outside == tuple(folder / path for path in strange)


def test_a_chat_that_g4_saved_itself_names_any_file(tmp_path: Path) -> None:
    autosave_chat(ask_about(tmp_path / "a.png"))
    assert find_outside_media(load_chat(Path("last")), Path("last")) == ()
