"""A turn of a conversation as the page gets it: its HTML, its text, its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from g4cli.core.visible import escape_invisible
from g4cli.operations.page.answers import PageAnswer
from g4cli.operations.page.conversations import collect_figures
from g4cli.server.page_routes.stream import render_blocks
from g4cli.store.conversations.records import StoredConversation, StoredTurn


def describe_conversation(
    conversation: StoredConversation, running: Sequence[PageAnswer]
) -> dict[str, Any]:
    """Return a conversation with the turns of the branch that is shown.

    `running`: its answers that are being written.
    """
    by_turn = {answer.turn: answer for answer in running}
    summary = conversation.summary
    return {
        "id": summary.id,
        "title": summary.title,
        "system": summary.system,
        "turns": [
            {
                **describe_turn(turn, is_running=turn.id in by_turn),
                "siblings": list(conversation.siblings[turn.id]),
            }
            for turn in conversation.turns
        ],
    }


def describe_turn(turn: StoredTurn, *, is_running: bool = False) -> dict[str, Any]:
    """Return one turn; the blocks of an answer that is being written come by its events."""
    message = turn.message
    is_answer = message.role == "assistant"
    return {
        "id": turn.id,
        "parent": turn.parent,
        "role": message.role,
        "text": message.content,
        "thought": escape_invisible(message.thought),
        "blocks": render_blocks(message.content) if is_answer and not is_running else [],
        "calls": [call.name for call in message.tool_calls],
        "media": [{"kind": item.kind, "name": item.path.name} for item in message.media],
        "model": turn.model,
        "finish": turn.finish_reason,
        "running": is_running,
        "settings": dict(turn.settings),
        "figures": dict(turn.figures),
        "created": turn.created,
    }


def describe_end(answer: PageAnswer) -> dict[str, Any]:
    """Return what the last event of an answer says, by the names of `describe_turn`."""
    message = answer.message
    return {
        "text": message.content,
        "thought": escape_invisible(message.thought),
        "calls": [call.name for call in message.tool_calls],
        "model": answer.model,
        "finish": answer.finish_reason,
        "figures": collect_figures(answer),
    }
