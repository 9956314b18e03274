"""Delete turns: their rows, their words in the index, and the media that only they used."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from g4cli.store.conversations.database import media_dir
from g4cli.store.conversations.records import StoredTurn
from g4cli.store.conversations.write_rows import shorten_title, storable_text, unindex_text


def collect_followers(turns: Sequence[StoredTurn], turn: int) -> list[StoredTurn]:
    """Return the turn with the id `turn` and all that follow it, in every branch, oldest first.

    `turns` are those of a conversation, ordered by their ids: a turn comes after the one it
    follows. Empty if there is no such turn.
    """
    collected = {turn}
    for item in turns:
        if item.parent in collected:
            collected.add(item.id)
    return [item for item in turns if item.id in collected]


def delete_turns(db: sqlite3.Connection, turns: Sequence[StoredTurn]) -> None:
    """Delete `turns`, ordered by their ids. No turn that stays may follow one of them."""
    for turn in turns:
        unindex_text(db, turn.id, turn.message.content)
    # The last one first: SQLite follows a chain of turns no deeper than 1,000 by itself.
    db.executemany("DELETE FROM turns WHERE id = ?", [(turn.id,) for turn in reversed(turns)])
    for path in {item.path for turn in turns for item in turn.message.media}:
        if path.parent != media_dir():
            continue
        # Another turn may use the same file. Its name is a hash, so that nothing else contains it.
        if db.execute("SELECT 1 FROM turns WHERE rest LIKE ?", (f"%{path.name}%",)).fetchone():
            continue
        with suppress(OSError):
            path.unlink()
    db.execute("INSERT INTO turn_text (turn_text) VALUES ('optimize')")


def choose_head(
    turns: Sequence[StoredTurn], deleted: Sequence[StoredTurn], head: int | None
) -> int | None:
    """Return a turn of the branch to show when `deleted`, a turn and its followers, is gone.

    The branch that is shown, which ends with `head`, stays if nothing of it was deleted. Else it is
    the version before the deleted turn, or the one after it, or the turn that it followed. None:
    nothing is left.
    """
    gone = {item.id for item in deleted}
    if head is not None and head not in gone:
        return head
    first = deleted[0]
    versions = [item.id for item in turns if item.parent == first.parent]
    at = versions.index(first.id)
    beside = versions[max(0, at - 1) : at] or versions[at + 1 : at + 2]
    return beside[0] if beside else first.parent


def choose_title(title: str, deleted: Sequence[StoredTurn], left: Sequence[StoredTurn]) -> str:
    """Return the title of a conversation: a deleted question is replaced by the first one left."""
    texts = [storable_text(shorten_title(item.message.content)) for item in deleted]
    if title not in texts:
        return title
    questions = [item.message.content for item in left if item.message.role == "user"]
    return storable_text(shorten_title(questions[0])) if questions else ""
