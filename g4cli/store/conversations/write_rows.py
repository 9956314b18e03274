"""Messages as the columns of a row, and their words as entries of the index."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from g4cli.chat.conversation import message_to_json
from g4cli.core.errors import G4Error
from g4cli.core.files import require_file
from g4cli.core.hashing import sha256_of
from g4cli.prompt.messages import Message

_TITLE_CHARS: Final = 80


def shorten_title(text: str) -> str:
    """Return `text` as a title: its first 80 characters, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _TITLE_CHARS else line[: _TITLE_CHARS - 3] + "..."


def storable_text(text: str) -> str:
    """Return `text` without lone surrogates, which UTF-8 lacks: from command lines, or JSON.

    Columns of JSON keep them, in ASCII: the path of a file may need them.
    """
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def mapping_text(data: Mapping[str, Any] | None) -> str:
    """Return `data` as JSON; None: an empty object."""
    return json.dumps(dict(data or {}))


def message_rest(message: Message) -> str:
    """Return the parts of `message` without a column of their own as JSON, media with hashes."""
    data = message_to_json(message)
    for name in ("role", "content", "thought"):
        data.pop(name, None)
    for item in data.get("media", ()):
        item["path"] = os.path.abspath(item["path"])
        item["sha256"] = ""
        with suppress(G4Error, OSError):
            item["sha256"] = sha256_of(require_file(Path(item["path"])))
    return json.dumps(data)


def index_text(db: sqlite3.Connection, turn: int, content: str) -> None:
    """Let the content of a turn be found by its words."""
    db.execute("INSERT INTO turn_text (rowid, content) VALUES (?, ?)", (turn, content))


def unindex_text(db: sqlite3.Connection, turn: int, content: str) -> None:
    """Remove the content of a turn, which must be that of its row, from the index."""
    # The index holds no text of its own: it is told the words to remove
    # (https://www.sqlite.org/fts5.html#the_delete_command).
    db.execute(
        "INSERT INTO turn_text (turn_text, rowid, content) VALUES ('delete', ?, ?)",
        (turn, content),
    )
