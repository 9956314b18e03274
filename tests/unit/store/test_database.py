"""What SQLite reports becomes an error of g4 with its exit code."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from g4cli.core.errors import BadFile, G4Error, NoSpace, RuntimeFailed, UsageError
from g4cli.store.conversations.database import open_database, translate_errors
from g4cli.store.conversations.store import ConversationStore


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (sqlite3.OperationalError("database or disk is full"), NoSpace),
        (sqlite3.OperationalError("attempt to write a readonly database"), UsageError),
        (sqlite3.OperationalError("unable to open database file"), UsageError),
        (sqlite3.OperationalError("disk I/O error"), UsageError),
        (sqlite3.OperationalError("database is locked"), RuntimeFailed),
        (sqlite3.OperationalError("no such module: fts5"), RuntimeFailed),
        (sqlite3.OperationalError("no such column: title"), BadFile),
        (sqlite3.OperationalError("interrupted"), RuntimeFailed),
        (sqlite3.DatabaseError("file is not a database"), BadFile),
        (NoSpace("no space is left"), NoSpace),
    ],
)
def test_errors_of_sqlite_keep_their_meaning(error: Exception, kind: type[G4Error]) -> None:
    with pytest.raises(kind), translate_errors(Path("chats.db")):
        raise error


def test_a_pipe_in_its_place_is_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "chats.db"
    os.mkfifo(pipe)
    with pytest.raises(UsageError, match="not a regular file"):
        open_database(pipe)


def test_a_file_system_without_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with ConversationStore.open(tmp_path / "c.db") as store:
        assert store.list_conversations() == ()
