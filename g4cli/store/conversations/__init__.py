"""Conversations in one SQLite database: those of `g4 chat` and those of the page of `g4 serve`.

    database.py    open the file, check it, translate SQLite's errors
    schema.py      the tables, and the conversations that older versions kept in JSON files
    records.py     the values that come back
    read_rows.py   rows as values, with their types and links checked
    write_rows.py  messages as the columns of a row
    delete_rows.py turns, with what follows them and what only they used
    search.py      full-text search
    store.py       ConversationStore: create, append, branch, load, list, search, delete
    export.py      a conversation as JSON or Markdown

The turns of a conversation are a tree: each knows the turn before it. Another answer, or an edited
question, is one more child of the same turn, so nothing that was said is lost. The head of a
conversation is the last turn of the branch that is shown.
"""

from g4cli.store.conversations.database import conversations_path, media_dir
from g4cli.store.conversations.export import summary_to_json, to_json, to_markdown
from g4cli.store.conversations.records import (
    SearchHit,
    StoredConversation,
    StoredTurn,
    Summary,
    reply_figures,
)
from g4cli.store.conversations.store import ConversationStore

__all__ = [
    "ConversationStore",
    "SearchHit",
    "StoredConversation",
    "StoredTurn",
    "Summary",
    "conversations_path",
    "media_dir",
    "reply_figures",
    "summary_to_json",
    "to_json",
    "to_markdown",
]
