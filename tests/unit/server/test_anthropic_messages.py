"""The events of a turn in Anthropic's form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from g4cli.chat import Finished, FoundLoop, PromptRead, Reply, TurnEvent
from g4cli.prompt.messages import ToolCall
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtEnded, ThoughtText
from g4cli.server.anthropic_messages import MessageStream

CALL = ToolCall("find", {"name": "Zoë", "n": [1, 2]})
REPLY = replace(Reply.interrupted(), finish_reason="stop", tokens=(5,) * 7)
READ = PromptRead(12, 5, 0.1)


def _convert(*events: TurnEvent, **options: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    stream = MessageStream("tiny", **options)
    return [wire for event in events for wire in stream.convert(event)], stream.message


def test_the_order_of_events() -> None:
    calls = replace(REPLY, tool_calls=(CALL, CALL))
    told, message = _convert(
        READ, ThoughtText("Let "), ThoughtText("me."), ThoughtEnded(), AnswerText("Yes"),
        AnswerText("!"), CallMade(CALL), CallMade(CALL), AnswerText("So."), Finished(calls),
    )  # fmt: skip
    steps = [(wire["type"].removeprefix("content_block_"), wire.get("index")) for wire in told]
    assert steps == [
        ("message_start", None),
        ("start", 0), ("delta", 0), ("delta", 0), ("delta", 0), ("stop", 0),
        ("start", 1), ("delta", 1), ("delta", 1), ("stop", 1),
        ("start", 2), ("delta", 2), ("stop", 2),
        ("start", 3), ("delta", 3), ("stop", 3),
        ("start", 4), ("delta", 4), ("stop", 4),
        ("message_delta", None), ("message_stop", None),
    ]  # fmt: skip
    thought, text, first, second, last = message["content"]
    assert thought == {"type": "thinking", "thinking": "Let me.", "signature": "g4"}
    assert (text, last) == ({"type": "text", "text": "Yes!"}, {"type": "text", "text": "So."})
    assert first["input"] == second["input"] == {"name": "Zoë", "n": [1, 2]}
    assert first["id"] != second["id"]
    assert message["stop_reason"] == "tool_use"


def test_blocks_begin_empty_even_when_events_are_kept() -> None:
    told, _ = _convert(READ, AnswerText("Yes"), CallMade(CALL), Finished(REPLY))
    starts = [wire["content_block"] for wire in told if wire["type"] == "content_block_start"]
    assert starts[0]["text"] == ""
    assert starts[1]["input"] == {}
    assert told[0]["message"]["content"] == []
    assert told[0]["message"]["usage"]["output_tokens"] == 0


def test_usage_counts_cached_tokens_apart() -> None:
    _, message = _convert(READ, Finished(REPLY))
    expected = {"input_tokens": 7, "cache_read_input_tokens": 5, "output_tokens": 7}
    assert message["usage"] == expected


def test_thoughts_can_be_omitted() -> None:
    told, message = _convert(READ, ThoughtText("x"), Finished(REPLY), omit_thoughts=True)
    assert message["content"] == [{"type": "thinking", "thinking": "", "signature": "g4"}]
    assert not any("thinking_delta" in str(wire) for wire in told)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "end_turn"),
        ({"finish_reason": "length"}, "max_tokens"),
        ({"finish_reason": "length", "context_full": True}, "model_context_window_exceeded"),
        ({"finish_reason": "length", "tool_calls": (CALL,)}, "max_tokens"),
        ({"stop_string": "END"}, "stop_sequence"),
        ({"finish_reason": "loop"}, "end_turn"),
    ],
)
def test_reasons_to_stop(change: dict[str, Any], reason: str) -> None:
    _, message = _convert(READ, Finished(replace(REPLY, **change)))
    assert message["stop_reason"] == reason
    assert message["stop_sequence"] == (change.get("stop_string") or None)


def test_a_loop_is_told() -> None:
    reply = replace(REPLY, finish_reason="loop", loop=FoundLoop("la ", 2, 5, 60))
    told, message = _convert(READ, Finished(reply))
    assert message["g4"]["loop"]["unit"] == "la "
    assert told[-2]["g4"] == message["g4"]
