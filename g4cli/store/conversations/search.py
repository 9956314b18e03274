"""Find text in the turns and titles of conversations."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from g4cli.core.errors import UsageError
from g4cli.store.conversations.read_rows import read_id
from g4cli.store.conversations.schema import TOKENIZER
from g4cli.store.conversations.write_rows import storable_text

# Choices: an excerpt fills a line of a terminal, and the match begins in its first half.
_EXCERPT_CHARS: Final = 80
_CHARS_BEFORE: Final = 30
_EXCERPT_WORDS: Final = 16
_MAX_QUERY_CHARS: Final = 1000


def find_matches(db: sqlite3.Connection, text: str) -> dict[int, tuple[int | None, str]]:
    """Return, by the id of each conversation that matches, its newest matching turn and an excerpt.

    The turn is None where only the title matches. See `ConversationStore.search`. The caller's
    transaction is rolled back, which removes a table of the titles. Raises UsageError if `text` is
    too long.
    """
    if len(text) > _MAX_QUERY_CHARS:
        raise UsageError(f"a search has at most {_MAX_QUERY_CHARS:,} characters")
    text = storable_text(text).replace("\0", " ")  # FTS5 takes a NUL for the end
    words = [word.replace('"', '""') for word in text.split()]
    if not words:
        return {}
    query = " ".join(f'"{word}"' for word in words) + "*"
    rows = _find_words(db, query) or _find_text(db, text)
    matches: dict[int, tuple[int | None, str]] = {}
    for conversation, turn, excerpt in rows:
        found = (None, "") if turn is None else (read_id(turn), str(excerpt))
        matches.setdefault(read_id(conversation), found)
    return matches


def _find_words(db: sqlite3.Connection, query: str) -> list[Any]:
    """Return (conversation, turn, excerpt) of what matches a query of FTS5, titles last."""
    turns = db.execute(
        f"SELECT t.conversation, t.id, snippet(turn_text, 0, '', '', '...', {_EXCERPT_WORDS})"
        " FROM turn_text JOIN turns t ON t.id = turn_text.rowid"
        " WHERE turn_text MATCH ? ORDER BY t.id DESC",
        (query,),
    ).fetchall()
    # Titles are few and short, so that an index of them is made for each search.
    db.execute(f"CREATE VIRTUAL TABLE temp.title_text USING fts5 (title, {TOKENIZER})")
    db.execute("INSERT INTO title_text (rowid, title) SELECT id, title FROM conversations")
    titles = db.execute("SELECT rowid, NULL, '' FROM title_text WHERE title_text MATCH ?", (query,))
    return [*turns, *titles]


def _find_text(db: sqlite3.Connection, text: str) -> list[Any]:
    """Return (conversation, turn, excerpt) of what contains `text` as it stands, titles last."""
    return db.execute(
        "SELECT conversation, id,"
        f" substr(content, max(1, instr(content, :text) - {_CHARS_BEFORE}), {_EXCERPT_CHARS})"
        " FROM turns WHERE instr(content, :text)"
        " UNION ALL SELECT id, NULL, '' FROM conversations WHERE instr(title, :text)"
        " ORDER BY 2 DESC",
        {"text": text},
    ).fetchall()
