"""A stored conversation as JSON, which `g4 chat --resume FILE` reads, or as Markdown."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any, Final

from g4cli.chat.conversation import FORMAT, VERSION, message_to_json
from g4cli.core.quoting import code_span
from g4cli.core.visible import json_text
from g4cli.store.conversations.records import StoredConversation, StoredTurn, Summary

_HEADINGS: Final = {"user": "User", "assistant": "Model", "tool": "Tool"}


def summary_to_json(summary: Summary) -> dict[str, Any]:
    """Return what a list says of a conversation; times as in ISO 8601."""
    return {
        "id": summary.id,
        "title": summary.title,
        "turns": summary.n_turns,
        "model": summary.model,
        "source": summary.source,
        "created": format_time(summary.created),
        "updated": format_time(summary.updated),
    }


def to_json(conversation: StoredConversation) -> dict[str, Any]:
    """Return the shown branch in the format that /save writes, with model and figures as well."""
    return {
        "format": FORMAT,
        "version": VERSION,
        **summary_to_json(conversation.summary),
        "system": conversation.summary.system,
        "messages": [_turn_to_json(turn) for turn in conversation.turns],
    }


def to_markdown(conversation: StoredConversation) -> str:
    """Return the shown branch as Markdown: a heading for each turn, thoughts as quotations."""
    summary = conversation.summary
    lines = [f"# {_join_lines(summary.title)}", "", format_time(summary.created), ""]
    if summary.system:
        lines += ["## System", "", summary.system, ""]
    for turn in conversation.turns:
        message = turn.message
        name = _join_lines(turn.model or message.name)  # of the model, or of the tool
        lines += [f"## {_HEADINGS[message.role]}" + (f" ({name})" if name else ""), ""]
        for item in message.media:
            lines += [f"- {item.kind}: {code_span(str(item.path))}", ""]
        if message.thought:
            lines += ["\n".join(f"> {line}" for line in message.thought.splitlines()), ""]
        for call in message.tool_calls:
            arguments = json_text(dict(call.arguments))
            lines += [f"- tool call: {code_span(call.name)} {code_span(arguments)}", ""]
        if message.content:
            lines += [message.content, ""]
    return "\n".join(lines)


def format_time(seconds: float) -> str:
    """Return a time in UTC as ISO 8601, to the second."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def _turn_to_json(turn: StoredTurn) -> dict[str, Any]:
    data = message_to_json(turn.message)
    for item, sha256 in zip(data.get("media", ()), turn.media_sha256, strict=False):
        if sha256:
            item["sha256"] = sha256
    data["created"] = format_time(turn.created)
    for name in ("model", "finish_reason", "settings", "figures"):
        if value := getattr(turn, name):
            data[name] = value
    return data


def _join_lines(text: str) -> str:
    return re.sub(r"\s+", " ", text)
