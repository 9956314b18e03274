"""The tables of the database of conversations, and what older versions of g4 kept in files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from g4cli.chat import Conversation
from g4cli.core.errors import BadFile, G4Error
from g4cli.core.files import read_text
from g4cli.core.paths import state_dir
from g4cli.store.conversations.database import MAX_TEXT_BYTES

# The version of these tables; a later one adds the step from each version to the next.
VERSION: Final = 1

# unicode61 folds case and accents; it takes a sentence without spaces (Chinese, Japanese, Thai) as
# one word, which search() makes up for.
TOKENIZER: Final = "tokenize='unicode61 remove_diacritics 2'"

# The index is filled by the store and not by triggers, which PRAGMA trusted_schema = OFF forbids.
# `rest` is JSON: the fields of a message without a column of
# their own.
_TABLES: Final = (
    """CREATE TABLE conversations (
        id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, system TEXT NOT NULL,
        source TEXT NOT NULL, model TEXT NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
        head INTEGER)""",
    """CREATE TABLE turns (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
        parent INTEGER REFERENCES turns (id) ON DELETE CASCADE,
        role TEXT NOT NULL, content TEXT NOT NULL, thought TEXT NOT NULL,
        rest TEXT NOT NULL, model TEXT NOT NULL, finish_reason TEXT NOT NULL,
        settings TEXT NOT NULL, figures TEXT NOT NULL, created REAL NOT NULL)""",
    "CREATE INDEX turns_of_conversation ON turns (conversation, id)",
    "CREATE INDEX turns_of_parent ON turns (parent)",
    "CREATE INDEX conversations_by_time ON conversations (updated)",
    f"""CREATE VIRTUAL TABLE turn_text USING fts5 (
        content, content='turns', content_rowid='id', {TOKENIZER})""",
)


def prepare_schema(db: sqlite3.Connection) -> bool:
    """Make the tables of a new database; return whether this call made them.

    The caller holds a transaction. Raises BadFile if a newer version of g4 made the database.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise BadFile(
            f"the saved conversations have format version {version}; "
            f"this version of g4 reads {VERSION}",
            hint="pip install --upgrade g4cli",
        )
    if version == VERSION:
        return False
    for statement in _TABLES:
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {VERSION}")
    return True


def read_old_files() -> Iterator[tuple[str, float, Conversation]]:
    """Yield name, time and content of the conversations that older versions kept in JSON files.

    Those that cannot be read are left where they are.
    """
    try:
        names = (state_dir() / "chats").glob("[!.]*.json")
        # is_file: not for a link whose target is gone.
        files = sorted(filter(Path.is_file, names), key=lambda file: file.stat().st_mtime)
    except OSError:
        return
    for path in files:
        try:
            text = read_text(path, MAX_TEXT_BYTES)
            yield path.stem, path.stat().st_mtime, Conversation.from_text(text)
        except (G4Error, OSError):
            continue
