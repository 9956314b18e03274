"""The database of conversations: turns, branches, search, deletion, damage and hostile content."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from g4cli.chat import Conversation
from g4cli.core.errors import BadFile, NotFound, UsageError
from g4cli.core.paths import state_dir
from g4cli.prompt.messages import Media, Message, ToolCall
from g4cli.store.conversations.database import conversations_path, media_dir
from g4cli.store.conversations.export import to_json, to_markdown
from g4cli.store.conversations.store import ConversationStore


@pytest.fixture
def store() -> Iterator[ConversationStore]:
    with ConversationStore.open() as opened:
        yield opened


def question(text: str) -> Message:
    return Message("user", text)


def answer(text: str, **fields: object) -> Message:
    return Message("assistant", text, **fields)  # type: ignore[arg-type]


def talk(store: ConversationStore, *texts: str) -> int:
    """Store a conversation of questions and answers in turn; return its id."""
    id_, parent = store.create(), None
    for number, text in enumerate(texts):
        parent = store.append(id_, (answer if number % 2 else question)(text), parent=parent)
    return id_


def contents(store: ConversationStore, id_: int) -> list[str]:
    return [message.content for message in store.load(id_).messages]


def test_a_turn_comes_back_as_it_was_stored(store: ConversationStore, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"picture")
    id_ = store.create(system="Be brief.")
    asked = store.append(
        id_, Message("user", "What is it?\n\x00", media=(Media("image", picture),)), parent=None
    )
    said = Message("assistant", "A cat", thought="hm", tool_calls=(ToolCall("look", {"n": [1]}),))
    store.append(
        id_, said, parent=asked, model="tiny", finish_reason="stop",
        settings={"temp": 0.5}, figures={"completion_tokens": 3},
    )  # fmt: skip
    loaded = store.load(id_)
    assert loaded.summary.system == "Be brief."
    assert loaded.summary.title == "What is it? \x00"
    assert loaded.summary.model == "tiny"
    first, second = loaded.turns
    assert first.message.media == (Media("image", picture),)
    assert first.media_sha256 == (hashlib.sha256(b"picture").hexdigest(),)
    assert second.message == said
    assert (second.settings, second.figures) == ({"temp": 0.5}, {"completion_tokens": 3})
    assert (second.model, second.finish_reason) == ("tiny", "stop")


def test_an_edited_question_makes_a_branch_and_both_stay_reachable(
    store: ConversationStore,
) -> None:
    id_ = talk(store, "one", "1", "two", "2")
    first, said, second, _ = store.load(id_).turns
    edited = store.append(id_, question("TWO"), parent=said.id)
    other = store.append(id_, answer("II"), parent=edited)
    assert contents(store, id_) == ["one", "1", "TWO", "II"]
    assert store.load(id_).siblings[edited] == (second.id, edited)
    assert store.load(id_).siblings[first.id] == (first.id,)
    store.show_branch(id_, second.id)
    assert contents(store, id_) == ["one", "1", "two", "2"]
    assert store.load(id_, head=other).messages[-1].content == "II"
    assert len(store.load_turns(id_)) == 6
    store.set_head(id_, None)
    assert contents(store, id_) == []


def test_an_answer_is_updated_while_it_is_written(store: ConversationStore) -> None:
    id_ = talk(store, "q")
    (asked,) = store.load(id_).turns
    turn = store.append(id_, answer("Hel"), parent=asked.id, finish_reason="partial")
    assert store.load(id_).turns[-1].finish_reason == "partial"
    store.update_answer(turn, answer("Hello"), finish_reason="stop", figures={"decode_s": 1.0})
    assert store.load(id_).turns[-1].message.content == "Hello"
    assert store.load(id_).turns[-1].finish_reason == "stop"
    assert [hit.turn for hit in store.search("Hello")] == [turn]
    assert store.search("Hel ") != ()


def test_the_newest_comes_first_and_the_title_is_the_first_question(
    store: ConversationStore,
) -> None:
    one, two = talk(store, "first  question\n" + "x" * 100, "a"), talk(store, "second")
    assert [summary.id for summary in store.list_conversations()] == [two, one]
    store.append(one, question("more"), parent=store.load(one).turns[-1].id)
    assert [summary.id for summary in store.list_conversations(limit=1)] == [one]
    assert len(store.list_conversations(limit=10**20)) == 2
    assert store.find_latest() == one
    assert store.list_conversations()[0].title == "first question " + "x" * 62 + "..."
    assert store.list_conversations()[0].n_turns == 3
    store.rename(one, "renamed")
    store.set_system(one, "S")
    assert store.load(one).summary.title == "renamed"
    assert store.load(one).summary.system == "S"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("quick", True), ("QUICK fox", True), ("fox quick", True), ("bro", True),
        ("Ubergrosse", False), ("ubergroße", True), ("猫が", True), ("rown", True),
        ('"quick', True), ("quick OR nothing", False), ("NEAR(", False), ("*", False), ("", False),
        ("qick", False), ("q_ick", False), ("qu%k", False),
    ],
)  # fmt: skip
def test_search(store: ConversationStore, wanted: str, found: bool) -> None:
    talk(store, "hello", "nothing here")
    id_ = talk(store, "what is it", "The quick brown fox, Übergroße, 小さい猫がいる。")
    hits = store.search(wanted)
    assert [hit.summary.id for hit in hits] == ([id_] if found else [])
    if found and wanted == "quick":
        assert "quick brown fox" in hits[0].excerpt


def test_search_finds_titles_too(store: ConversationStore) -> None:
    id_ = talk(store, "q", "a")
    store.rename(id_, "Holiday 100%")
    assert [hit.summary.id for hit in store.search("day 100%")] == [id_]
    store.rename(id_, "Quantizing the Café header of a GGUF")
    for wanted, found in (("gguf header", True), ("CAFE quant", True), ("header q", True),
                          ("fé head", True), ("cafe ggu head", False)):  # fmt: skip
        hits = store.search(wanted)
        assert [(hit.summary.id, hit.turn) for hit in hits] == [(id_, None)] * found, wanted
    talk(store, "header")
    assert len(store.search("header")) == 2
    with pytest.raises(UsageError):
        store.search("x" * 2000)


def test_what_is_deleted_is_gone_from_the_disk(store: ConversationStore) -> None:
    kept = talk(store, "unrelated", "text")
    id_ = talk(store, "xylophone " * 50, "marimba secret")
    shared = store.keep_media("image", b"shared", ".png")
    own = store.keep_media("image", b"own", ".png")
    for conversation, media in ((kept, (shared,)), (id_, (shared, own))):
        parent = store.load(conversation).turns[-1].id
        store.append(conversation, Message("user", "see", media=media), parent=parent)
    store.delete(id_)
    with pytest.raises(NotFound):
        store.load(id_)
    assert store.search("marimba") == ()
    assert not own.path.exists()
    assert shared.path.read_bytes() == b"shared"
    assert contents(store, kept) == ["unrelated", "text", "see"]
    data = b"".join(path.read_bytes() for path in state_dir().glob("conversations.db*"))
    assert b"unrelated" in data
    for word in (b"xylophone", b"marimba", b"secret"):
        assert word not in data


def test_a_turn_is_deleted_with_what_follows_and_other_versions_stay(
    store: ConversationStore,
) -> None:
    id_ = talk(store, "cats?", "meow", "more?", "more meow")
    first, reply, more, _ = (turn.id for turn in store.load(id_).turns)
    other = store.append(id_, answer("purr"), parent=first)
    store.append(id_, question("why purr?"), parent=other)
    assert store.delete_turn(id_, more)  # of a branch that is not shown
    assert contents(store, id_) == ["cats?", "purr", "why purr?"]
    assert store.delete_turn(id_, other)
    assert contents(store, id_) == ["cats?", "meow"]
    assert store.search("purr") == ()
    assert store.delete_turn(id_, reply)
    assert contents(store, id_) == ["cats?"]
    assert not store.delete_turn(id_, first)
    with pytest.raises(NotFound):
        store.load(id_)


def test_a_deleted_question_leaves_neither_its_title_nor_its_picture(
    store: ConversationStore,
) -> None:
    id_ = store.create()
    own = store.keep_media("image", b"own", ".png")
    first = store.append(id_, Message("user", "secret plan", media=(own,)), parent=None)
    store.append(id_, question("weather?"), parent=None)
    store.delete_turn(id_, first)
    assert store.load(id_).summary.title == "weather?"
    assert not own.path.exists()
    data = b"".join(path.read_bytes() for path in state_dir().glob("conversations.db*"))
    assert b"secret" not in data
    store.rename(id_, "My title")
    last = store.append(id_, answer("Sunny."), parent=store.load(id_).turns[-1].id)
    store.delete_turn(id_, last)
    assert store.load(id_).summary.title == "My title"


@pytest.mark.parametrize("whole", [True, False])
def test_a_long_conversation_can_be_deleted(store: ConversationStore, whole: bool) -> None:
    """SQLite itself follows no more than 1,000 links from row to row."""
    id_ = talk(store, "0")
    first = store.load(id_).turns[0].id
    with closing(sqlite3.connect(conversations_path())) as db, db:  # quicker than by the store
        for turn in range(first + 1, first + 1_100):
            db.execute(
                "INSERT INTO turns SELECT ?, conversation, ?, role, ?, thought, rest, model,"
                " finish_reason, settings, figures, created FROM turns WHERE id = ?",
                (turn, turn - 1, str(turn - first), first),
            )
        db.execute("INSERT INTO turn_text (turn_text) VALUES ('rebuild')")
        db.execute("UPDATE conversations SET head = ?", (first + 1_099,))
    assert len(store.load(id_).turns) == 1_100
    if whole:
        store.delete(id_)
    else:
        assert store.delete_turn(id_, first + 1)
        assert contents(store, id_) == ["0"]
    assert store.search("1099") == ()


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.load(99),
        lambda store: store.load(10**20),
        lambda store: store.delete_turn(1, -(10**20)),
        lambda store: store.append(99, question("x"), parent=None),
        lambda store: store.append(1, question("x"), parent=99),
        lambda store: store.append(2, question("x"), parent=1),
        lambda store: store.update_answer(99, answer("x"), finish_reason="stop"),
        lambda store: store.set_head(1, 99),
        lambda store: store.load(1, head=99),
        lambda store: store.show_branch(2, 1),
        lambda store: store.rename(99, "x"),
        lambda store: store.delete(99),
        lambda store: store.delete_turn(1, 2),
        lambda store: store.delete_turn(99, 1),
    ],
)
def test_what_is_not_there_is_reported(store: ConversationStore, call: object) -> None:
    talk(store, "one")
    talk(store, "two")
    with pytest.raises(NotFound):
        call(store)  # type: ignore[operator]
    assert len(store.list_conversations()) == 2


def test_the_files_are_private(store: ConversationStore) -> None:
    store.keep_media("image", b"x", ".png")
    talk(store, "q")
    assert state_dir().stat().st_mode & 0o777 == 0o700
    assert media_dir().stat().st_mode & 0o777 == 0o700
    files = [path for path in state_dir().rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"conversations.db", "conversations.db-wal"}
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_database_that_others_can_read_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    ConversationStore.open(path).close()
    path.chmod(0o644)
    ConversationStore.open(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other.db").touch()
    (tmp_path / "c.db").symlink_to(tmp_path / "other.db")
    with pytest.raises(UsageError, match="symbolic link"):
        ConversationStore.open(tmp_path / "c.db")


@pytest.mark.parametrize("at", ["header", "pages", "text"])
def test_a_damaged_database_is_moved_aside(tmp_path: Path, at: str) -> None:
    path = tmp_path / "c.db"
    with ConversationStore.open(path) as store:
        talk(store, *[f"turn {number} " * 100 for number in range(50)])
    data = bytearray(path.read_bytes())
    if at == "text":
        data = bytearray(b"not a database at all" * 100)
    elif at == "header":
        data[:16] = bytes(16)
    else:
        data[4096:20480] = os.urandom(16384)
    path.write_bytes(data)
    with pytest.raises(BadFile, match="moved to") as caught:
        ConversationStore.open(path)
    (aside,) = tmp_path.glob("c-damaged-*.db")
    assert str(aside) in caught.value.message
    assert aside.read_bytes() == bytes(data)
    with ConversationStore.open(path) as store:
        assert store.list_conversations() == ()


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    ConversationStore.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(BadFile, match="version 99"):
        ConversationStore.open(path)
    assert [file.name for file in tmp_path.glob("*.db")] == ["c.db"]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE turns SET parent = id",
        "UPDATE turns SET rest = '[]'",
        'UPDATE turns SET rest = \'{"media": [{"kind": "exe", "path": "x"}]}\'',
        "UPDATE turns SET figures = x'00ff'",
        "UPDATE turns SET role = 'system'",
        "UPDATE turns SET created = 1e300",
        "UPDATE conversations SET title = x'00ff'",
        "UPDATE conversations SET updated = 'soon'",
    ],
)
def test_content_of_the_wrong_kind_is_refused(tmp_path: Path, change: str) -> None:
    path = tmp_path / "c.db"
    with ConversationStore.open(path) as store:
        id_ = talk(store, "one", "two")
    with sqlite3.connect(path) as db:
        db.execute(change)
    with ConversationStore.open(path) as store, pytest.raises(BadFile, match="damaged"):
        store.load(id_)


def test_old_files_are_taken_over_once() -> None:
    old = Conversation("Be brief.")
    old.ask("An old question?")
    old.answer(answer("Yes."))
    folder = state_dir() / "chats"
    folder.mkdir(parents=True)
    (folder / "2026-01-02-030405.json").write_text(old.to_text())
    (folder / "broken.json").write_text("{")
    (folder / "nowhere.json").symlink_to("gone")
    os.utime(folder / "2026-01-02-030405.json", (1000, 1000))
    for _ in range(2):
        with ConversationStore.open() as store:
            (summary,) = store.list_conversations()
            assert summary.title == "An old question?"
            assert summary.updated == 1000
            assert store.load(summary.id).messages == old.turns
            assert store.find_imported("2026-01-02-030405") == summary.id
            assert store.find_imported("broken") is None


def test_old_files_are_taken_over_after_an_interruption(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Conversation()
    old.ask("An old question?")
    old.answer(answer("Yes."))
    folder = state_dir() / "chats"
    folder.mkdir(parents=True)
    for name in ("1", "2"):
        (folder / f"{name}.json").write_text(old.to_text())
    append, calls = ConversationStore.append, itertools.count(1)

    def stop_at_third(store: ConversationStore, *args: Any, **kwargs: Any) -> int:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return append(store, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ConversationStore, "append", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            ConversationStore.open()
    with ConversationStore.open() as store:
        assert [summary.n_turns for summary in store.list_conversations()] == [2, 2]


@pytest.mark.parametrize("text", ["GGUF\0", "\udcff GGUF"])
def test_a_search_for_what_sqlite_cannot_take(store: ConversationStore, text: str) -> None:
    id_ = talk(store, "What is GGUF? \udcff\ud800")
    assert store.load(id_).turns[0].message.content == "What is GGUF? \ufffd\ufffd"
    assert len(store.search(text)) == 1


def test_exports(store: ConversationStore) -> None:
    id_ = talk(store, "What is\n GGUF?")
    (asked,) = store.load(id_).turns
    said = answer("A *file format*.", thought="think\nhard")
    store.append(id_, said, parent=asked.id, model="tiny")
    data = to_json(store.load(id_))
    again = Conversation.from_text(json.dumps(data))
    assert again.turns == store.load(id_).messages
    assert (data["title"], data["messages"][1]["model"]) == ("What is GGUF?", "tiny")
    text = to_markdown(store.load(id_))
    assert text.startswith("# What is GGUF?\n")
    assert "## Model (tiny)\n\n> think\n> hard\n\nA *file format*.\n" in text


def test_an_export_says_what_a_tool_was_asked_and_which_one_answered(
    store: ConversationStore,
) -> None:
    id_ = store.create()
    asked = Message("user", "?", media=(Media("image", Path("/no `such` file")),))
    first = store.append(id_, asked, parent=None)
    call = ToolCall("weather", {"town": "`Bonn`", "days": 2})
    second = store.append(id_, answer("", tool_calls=(call,)), parent=first)
    store.append(id_, Message("tool", "sunny", name="weather"), parent=second)
    text = to_markdown(store.load(id_))
    assert "- image: ``/no `such` file``\n" in text
    assert '- tool call: `weather` ``{"town": "`Bonn`", "days": 2}``\n' in text
    assert "## Tool (weather)\n\nsunny\n" in text
    (item,) = to_json(store.load(id_))["messages"][0]["media"]
    assert item == {"kind": "image", "path": "/no `such` file"}, (
        "no hash of a file that is not there"
    )


def test_threads_share_one_store(store: ConversationStore) -> None:
    def write(number: int) -> None:
        talk(store, *[f"{number} {turn}" for turn in range(10)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    summaries = store.list_conversations()
    assert [summary.n_turns for summary in summaries] == [10] * 4
    for summary in summaries:
        number = summary.title.split()[0]
        assert contents(store, summary.id) == [f"{number} {turn}" for turn in range(10)]


def test_bytes_that_are_not_utf_8_can_be_stored(store: ConversationStore) -> None:
    assert contents(store, talk(store, "caf\udce9")) == ["caf\ufffd"]
    assert conversations_path().exists()
