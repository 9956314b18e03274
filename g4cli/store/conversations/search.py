"""Find text in the turns and titles of conversations."""

from __future__ import annotations

import sqlite3
from typing import Final

from g4cli.core.errors import UsageError
from g4cli.store.conversations.read_rows import read_id
from g4cli.store.conversations.write_rows import storable_text

# Choices: an excerpt fills a line of a terminal, and the match begins in its first half.
_EXCERPT_CHARS: Final = 80
_CHARS_BEFORE: Final = 30
_EXCERPT_WORDS: Final = 16
_MAX_QUERY_CHARS: Final = 1000


def find_matches(db: sqlite3.Connection, text: str) -> dict[int, tuple[int | None, str]]:
    """Return, by the id of each conversation that matches, its newest matching turn and an excerpt.

    The turn is None where only the title matches. See `ConversationStore.search`. Raises
    UsageError if `text` is too long.
    """
    if len(text) > _MAX_QUERY_CHARS:
        raise UsageError(f"a search has at most {_MAX_QUERY_CHARS:,} characters")
    text = storable_text(text).replace("\0", " ")  # FTS5 takes a NUL for the end
    words = [word.replace('"', '""') for word in text.split()]
    if not words:
        return {}
    query = " ".join(f'"{word}"' for word in words) + "*"
    rows = (
        db.execute(
            f"SELECT t.conversation, t.id, snippet(turn_text, 0, '', '', '...', {_EXCERPT_WORDS})"
            " FROM turn_text JOIN turns t ON t.id = turn_text.rowid"
            " WHERE turn_text MATCH ? ORDER BY t.id DESC",
            (query,),
        ).fetchall()
        or db.execute(
            "SELECT conversation, id,"
            f" substr(content, max(1, instr(content, ?) - {_CHARS_BEFORE}), ?)"
            " FROM turns WHERE instr(content, ?) ORDER BY id DESC",
            (text, _EXCERPT_CHARS, text),
        ).fetchall()
    )
    matches: dict[int, tuple[int | None, str]] = {}
    for conversation, turn, excerpt in rows:
        matches.setdefault(read_id(conversation), (read_id(turn), str(excerpt)))
    for row in db.execute(
        "SELECT id FROM conversations WHERE title LIKE ? ESCAPE '\\'",
        (f"%{_escape_like(text)}%",),
    ):
        matches.setdefault(read_id(row[0]), (None, ""))
    return matches


def _escape_like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
