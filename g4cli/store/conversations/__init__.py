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
