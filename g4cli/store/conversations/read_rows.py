"""Rows of the database as values. A file may hold anything: types and links are checked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from g4cli.chat.conversation import parse_message
from g4cli.core.errors import BadFile
from g4cli.store.conversations.records import StoredConversation, StoredTurn, Summary

_MAX_TIME_S: Final = 253_000_000_000  # in the year 9987; Python's dates end with 9999

SUMMARY_SQL: Final = (
    "SELECT id, title, system, source, model, created, updated, head,"
    " (SELECT count(*) FROM turns WHERE turns.conversation = conversations.id)"
    " FROM conversations"
)
TURN_SQL: Final = (
    "SELECT id, parent, role, content, thought, rest, model, finish_reason, settings, figures,"
    " created FROM turns"
)


def read_id(value: Any) -> int:
    """Return `value` if it is a row's id. Raises BadFile."""
    if not isinstance(value, int):
        raise BadFile(f"the saved conversations are damaged: {value!r:.40} is not an id")
    return value


def read_summary(row: Sequence[Any]) -> Summary:
    """Return a row of SUMMARY_SQL. Raises BadFile."""
    id_, title, system, source, model, created, updated, head, n_turns = row
    return Summary(
        read_id(id_),
        _read_text(title),
        _read_text(system),
        _read_text(source),
        _read_text(model),
        _read_time(created),
        _read_time(updated),
        None if head is None else read_id(head),
        read_id(n_turns),
    )


def read_turn(row: Sequence[Any]) -> StoredTurn:
    """Return a row of TURN_SQL. Raises BadFile."""
    id_, parent, role, content, thought, rest, model, finish, settings, figures, created = row
    other_fields = _read_mapping(rest)
    data = {**other_fields, "role": _read_text(role), "content": _read_text(content)}
    data["thought"] = _read_text(thought)
    try:
        message = parse_message(data)
        hashes = tuple(str(item.get("sha256", "")) for item in other_fields.get("media", ()))
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise BadFile(f"the saved conversations are damaged: turn {id_!r:.20}") from err
    return StoredTurn(
        read_id(id_),
        None if parent is None else read_id(parent),
        message,
        _read_time(created),
        _read_text(model),
        _read_text(finish),
        _read_mapping(settings),
        _read_mapping(figures),
        hashes,
    )


def collect_branch(
    summary: Summary, turns: Sequence[StoredTurn], last: int | None
) -> StoredConversation:
    """Return the branch of `turns` that ends with the id `last`; None: one without turns.

    Raises BadFile if the links between the turns go in a circle or to another conversation.
    """
    by_id = {turn.id: turn for turn in turns}
    children: dict[int | None, list[int]] = {}
    for turn in turns:
        children.setdefault(turn.parent, []).append(turn.id)
    branch: list[StoredTurn] = []
    next_id = last
    while next_id is not None:
        if next_id not in by_id:
            raise BadFile(f"the saved conversations are damaged: the links of turn {last}")
        branch.append(by_id.pop(next_id))
        next_id = branch[-1].parent
    branch.reverse()
    siblings = {turn.id: tuple(children[turn.parent]) for turn in branch}
    return StoredConversation(summary, tuple(branch), siblings)


def find_leaf(turns: Sequence[StoredTurn], turn: int) -> int:
    """Return the end of the newest branch through `turn`. `turns` are ordered by their ids."""
    newest = {item.parent: item.id for item in turns}  # the last one of each parent remains
    seen = {turn}  # a damaged file may link turns in a circle
    while (child := newest.get(turn)) is not None and child not in seen:
        turn = child
        seen.add(turn)
    return turn


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadFile(f"the saved conversations are damaged: {value!r:.40} is not text")
    return value


def _read_time(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value < _MAX_TIME_S:
        raise BadFile(f"the saved conversations are damaged: {value!r:.40} is not a time")
    return float(value)


def _read_mapping(value: Any) -> Mapping[str, Any]:
    try:
        data = json.loads(_read_text(value))
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise BadFile(f"the saved conversations are damaged: {value!r:.40} is not JSON")
    return data
