"""The conversations of this user: create, append, branch, load, list, search and delete.

Every method is one transaction and may be called from any thread; two processes may use the same
database at once.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

from g4cli.core.errors import NotFound
from g4cli.core.files import atomic_file
from g4cli.prompt.messages import Media, Message
from g4cli.store.conversations.database import (
    conversations_path,
    media_dir,
    open_database,
    translate_errors,
)
from g4cli.store.conversations.delete_rows import (
    choose_head,
    choose_title,
    collect_followers,
    delete_turns,
)
from g4cli.store.conversations.read_rows import (
    SUMMARY_SQL,
    TURN_SQL,
    collect_branch,
    find_leaf,
    read_id,
    read_summary,
    read_turn,
)
from g4cli.store.conversations.records import (
    SearchHit,
    StoredConversation,
    StoredTurn,
    Summary,
)
from g4cli.store.conversations.schema import prepare_schema, read_old_files
from g4cli.store.conversations.search import find_matches
from g4cli.store.conversations.write_rows import (
    index_text,
    mapping_text,
    message_rest,
    shorten_title,
    storable_text,
    unindex_text,
)

_NO_LIMIT: Final = 1_000_000  # rows of a list: more than anybody has


class ConversationStore:
    """The database of conversations. Use `ConversationStore.open()` in a `with` block.

    All methods raise BadFile if the database is damaged, UsageError or NoSpace if it cannot be
    written, and RuntimeFailed if another process keeps it locked.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self.path = connection, path
        self._lock = threading.RLock()

    @classmethod
    def open(cls, path: Path | None = None) -> ConversationStore:
        """Return the open store, by default that of this user; it is made if there is none.

        A damaged file is moved aside and BadFile is raised; the next call makes a new one.
        """
        path = path or conversations_path()
        store = cls(open_database(path), path)
        try:
            # One transaction: a process that is killed here leaves nothing half imported.
            with store._transaction() as db:
                if prepare_schema(db) and path == conversations_path():
                    store._import_old_files()
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> ConversationStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- writing

    def create(self, *, system: str = "", source: str = "chat") -> int:
        """Return the id of a new, empty conversation. Its first question becomes its title."""
        now = time.time()
        with self._transaction() as db:
            cursor = db.execute(
                "INSERT INTO conversations (title, system, source, model, created, updated)"
                " VALUES ('', ?, ?, '', ?, ?)",
                (storable_text(system), source, now, now),
            )
            return read_id(cursor.lastrowid)

    def append(
        self,
        conversation: int,
        message: Message,
        *,
        parent: int | None,
        model: str = "",
        finish_reason: str = "",
        settings: Mapping[str, Any] | None = None,
        figures: Mapping[str, Any] | None = None,
    ) -> int:
        """Store `message` after the turn `parent` and return its id; it becomes the head.

        `parent` is None for the first turn. A second turn after the same parent begins a branch.
        Raises NotFound if there is no such conversation or parent.
        """
        rest = message_rest(message)
        with self._transaction() as db:
            summary = self._read_summary(conversation)
            if parent is not None:
                self._require_turn(conversation, parent)
            now = time.time()
            cursor = db.execute(
                "INSERT INTO turns (conversation, parent, role, content, thought, rest, model,"
                " finish_reason, settings, figures, created) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                (conversation, parent, message.role, storable_text(message.content),
                 storable_text(message.thought), rest, storable_text(model), finish_reason,
                 mapping_text(settings), mapping_text(figures), now),
            )  # fmt: skip
            turn = read_id(cursor.lastrowid)
            index_text(db, turn, storable_text(message.content))
            title = summary.title
            if not title and message.role == "user":
                title = shorten_title(message.content)
            last_model = storable_text(model or summary.model)
            db.execute(
                "UPDATE conversations SET head = ?, updated = ?, title = ?, model = ? WHERE id = ?",
                (turn, now, storable_text(title), last_model, conversation),
            )
            return turn

    def update_answer(
        self,
        turn: int,
        message: Message,
        *,
        finish_reason: str,
        figures: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace the content of an answer that is still generated, or has just ended.

        `finish_reason` and `figures` are replaced too. Raises NotFound if the turn was deleted.
        """
        with self._transaction() as db:
            row = db.execute("SELECT content FROM turns WHERE id = ?", (turn,)).fetchone()
            if row is None:
                raise NotFound(f"there is no turn {turn} any more", hint="g4 chats")
            unindex_text(db, turn, row[0])
            index_text(db, turn, storable_text(message.content))
            db.execute(
                "UPDATE turns SET content = ?, thought = ?, rest = ?, finish_reason = ?,"
                " figures = ? WHERE id = ?",
                (storable_text(message.content), storable_text(message.thought),
                 message_rest(message), finish_reason, mapping_text(figures), turn),
            )  # fmt: skip
            db.execute(
                "UPDATE conversations SET updated = ?"
                " WHERE id = (SELECT conversation FROM turns WHERE id = ?)",
                (time.time(), turn),
            )

    def set_head(self, conversation: int, turn: int | None) -> None:
        """Let the shown branch end with `turn`; None: before the first turn. Raises NotFound."""
        with self._transaction():
            self._set_column(conversation, "head", turn)
            if turn is not None:
                self._require_turn(conversation, turn)

    def show_branch(self, conversation: int, turn: int) -> None:
        """Show the branch that goes through `turn`, to its newest end. Raises NotFound."""
        with self._transaction():
            self._require_turn(conversation, turn)
            leaf = find_leaf(self._read_turns(conversation), turn)
            self._set_column(conversation, "head", leaf)

    def rename(self, conversation: int, title: str) -> None:
        """Give a conversation another title. Raises NotFound."""
        self._set_column(conversation, "title", storable_text(title))

    def set_system(self, conversation: int, system: str) -> None:
        """Replace the system prompt of a conversation. Raises NotFound."""
        self._set_column(conversation, "system", storable_text(system))

    def delete(self, conversation: int) -> None:
        """Delete a conversation with all branches, and the media that only it used.

        What it said is overwritten on the disk, also in the index. Raises NotFound.
        """
        with self._transaction() as db:
            self._read_summary(conversation)
            delete_turns(db, self._read_turns(conversation))
            db.execute("DELETE FROM conversations WHERE id = ?", (conversation,))
        self._empty_journal()

    def delete_turn(self, conversation: int, turn: int) -> bool:
        """Delete a turn and all that follow it, as `delete` does; return whether any turn is left.

        Other versions of it stay, and one of them is shown instead. A conversation without turns
        is deleted. Raises NotFound.
        """
        with self._transaction() as db:
            summary = self._read_summary(conversation)
            self._require_turn(conversation, turn)
            turns = self._read_turns(conversation)
            deleted = collect_followers(turns, turn)
            delete_turns(db, deleted)
            left = self._read_turns(conversation)
            head = choose_head(turns, deleted, summary.head)
            if head is None:
                db.execute("DELETE FROM conversations WHERE id = ?", (conversation,))
            else:
                title = choose_title(summary.title, deleted, left)
                db.execute(
                    "UPDATE conversations SET head = ?, title = ? WHERE id = ?",
                    (find_leaf(left, head), title, conversation),
                )
        self._empty_journal()
        return head is not None

    def keep_media(self, kind: Literal["image", "audio"], data: bytes, suffix: str) -> Media:
        """Write the content of an image or a sound that has no file into a private folder.

        The file is named by its hash: the same content is kept once. `suffix`: such as ".png".
        """
        path = media_dir() / f"{hashlib.sha256(data).hexdigest()}{suffix}"
        if not path.exists():
            with atomic_file(path, mode=0o600) as file:
                file.write(data)
        return Media(kind, path)

    # --- reading

    def load(self, conversation: int, *, head: int | None = None) -> StoredConversation:
        """Return a conversation with its shown branch, or the branch that ends with `head`.

        Raises NotFound.
        """
        with self._read_transaction():
            summary = self._read_summary(conversation)
            turns = self._read_turns(conversation)
            last = summary.head if head is None else head
            if last is not None and all(turn.id != last for turn in turns):
                raise _no_turn(conversation, last)
            return collect_branch(summary, turns, last)

    def load_turns(self, conversation: int) -> tuple[StoredTurn, ...]:
        """Return the turns of all branches, oldest first. Raises NotFound."""
        with self._read_transaction():
            self._read_summary(conversation)
            return tuple(self._read_turns(conversation))

    def find_latest(self) -> int | None:
        """Return the id of the conversation with turns that was written last, or None."""
        with self._read_transaction() as db:
            row = db.execute(
                "SELECT id FROM conversations WHERE head IS NOT NULL"
                " ORDER BY updated DESC, id DESC LIMIT 1"
            ).fetchone()
            return None if row is None else read_id(row[0])

    def find_imported(self, name: str) -> int | None:
        """Return the id of the conversation that an older version kept in the file `name`.json."""
        with self._read_transaction() as db:
            row = db.execute(
                "SELECT id FROM conversations WHERE source = ?", (f"{name}.json",)
            ).fetchone()
            return None if row is None else read_id(row[0])

    def list_conversations(self, *, limit: int = 0) -> tuple[Summary, ...]:
        """Return the conversations, the one written last first; `limit` 0: all of them."""
        with self._read_transaction() as db:
            rows = db.execute(
                f"{SUMMARY_SQL} ORDER BY updated DESC, id DESC LIMIT ?",
                (min(limit or _NO_LIMIT, _NO_LIMIT),),
            )
            return tuple(read_summary(row) for row in rows)

    def search(self, text: str, *, limit: int = 0) -> tuple[SearchHit, ...]:
        """Return the conversations with all words of `text` in one turn or in the title.

        The last word may be the beginning of a word. Case and accents do not count. If nothing is
        found so, `text` is searched as it stands, also inside of words. Conversations that
        changed last come first.
        """
        with self._read_transaction() as db:
            hits = [
                SearchHit(self._read_summary(conversation), turn, excerpt)
                for conversation, (turn, excerpt) in find_matches(db, text).items()
            ]
        hits.sort(key=lambda hit: (hit.summary.updated, hit.summary.id), reverse=True)
        return tuple(hits[:limit] if limit else hits)

    # --- inside

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Let a block change the database as a whole or not at all.

        A block inside of another one is part of the outer one's transaction.
        """
        with self._lock, translate_errors(self.path):
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                self._connection.rollback()  # nothing where there is no transaction any more
                raise

    @contextmanager
    def _read_transaction(self) -> Iterator[sqlite3.Connection]:
        """Let a block see one state of the database."""
        with self._lock, translate_errors(self.path):
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                self._connection.rollback()  # nothing where there is no transaction any more

    def _set_column(self, conversation: int, column: str, value: str | int | None) -> None:
        """Replace what one column of a conversation holds. Raises NotFound."""
        with self._transaction() as db:
            self._read_summary(conversation)
            db.execute(f"UPDATE conversations SET {column} = ? WHERE id = ?", (value, conversation))

    def _read_summary(self, conversation: int) -> Summary:
        row = self._connection.execute(f"{SUMMARY_SQL} WHERE id = ?", (conversation,)).fetchone()
        if row is None:
            raise NotFound(f"there is no conversation {conversation}", hint="g4 chats")
        return read_summary(row)

    def _read_turns(self, conversation: int) -> list[StoredTurn]:
        rows = self._connection.execute(
            f"{TURN_SQL} WHERE conversation = ? ORDER BY id", (conversation,)
        )
        return [read_turn(row) for row in rows]

    def _require_turn(self, conversation: int, turn: int) -> None:
        row = self._connection.execute(
            "SELECT 1 FROM turns WHERE id = ? AND conversation = ?", (turn, conversation)
        ).fetchone()
        if row is None:
            raise _no_turn(conversation, turn)

    def _empty_journal(self) -> None:
        """Write the journal into the database, so that nothing that was deleted is left in it."""
        with self._lock, translate_errors(self.path):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _import_old_files(self) -> None:
        for name, written, old in read_old_files():
            id_ = self.create(system=old.system, source=f"{name}.json")
            parent = None
            for message in old.turns:
                parent = self.append(id_, message, parent=parent)
            self._connection.execute(
                "UPDATE conversations SET created = ?, updated = ? WHERE id = ?",
                (written, written, id_),
            )


def _no_turn(conversation: int, turn: int) -> NotFound:
    return NotFound(
        f"conversation {conversation} has no turn {turn}", hint=f"g4 chats show {conversation}"
    )
