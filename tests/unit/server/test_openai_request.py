"""Requests in OpenAI's two forms: what of earlier answers becomes part of the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from g4cli.core.errors import BadField
from g4cli.operations.serving.media_files import MediaFiles
from g4cli.operations.serving.requests import TurnRequest
from g4cli.prompt.messages import Message, ToolCall
from g4cli.server.openai_messages import make_turn_request as read_chat
from g4cli.server.openai_request import ChatBody
from g4cli.server.responses_request import ResponsesBody
from g4cli.server.responses_request import make_turn_request as read_responses

LOOP = (
    Message("user", "Where?"),
    Message("assistant", "Wait.", "I look.", (ToolCall("find", {"a": 1}),)),
    Message("tool", "here", name="find"),
)


@pytest.fixture
def files() -> Iterator[MediaFiles]:
    files = MediaFiles()
    yield files
    files.close()


def _chat(files: MediaFiles, *messages: dict[str, Any]) -> TurnRequest:
    return read_chat(ChatBody.model_validate({"messages": messages}), files)


def _responses(files: MediaFiles, *items: dict[str, Any]) -> TurnRequest:
    return read_responses(ResponsesBody.model_validate({"input": items}), files)


CALL = {"id": "c1", "type": "function", "function": {"name": "find", "arguments": '{"a": 1}'}}
CHAT = (
    {"role": "user", "content": "Where?"},
    {
        "role": "assistant",
        "content": "Wait.",
        "reasoning_content": "I look.",
        "tool_calls": [CALL],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "here"},
)
ITEMS = (
    {"role": "user", "content": "Where?"},
    {
        "type": "reasoning",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "I look."}],
    },
    {"role": "assistant", "content": [{"type": "output_text", "text": "Wait."}]},
    {"type": "function_call", "call_id": "c1", "name": "find", "arguments": '{"a": 1}'},
    {"type": "function_call_output", "call_id": "c1", "output": "here"},
)


def test_thoughts_of_a_tool_loop_reach_the_prompt(files: MediaFiles) -> None:
    assert _chat(files, *CHAT).messages == LOOP
    assert _responses(files, *ITEMS).messages == LOOP


def test_an_answer_is_continued_after_its_thought(files: MediaFiles) -> None:
    begun = {"role": "assistant", "content": "He", "reasoning_content": "Hm."}
    request = _chat(files, CHAT[0], begun)
    assert request.continue_last
    assert request.messages[-1] == Message("assistant", "He", "Hm.")


def test_an_answer_whose_calls_have_no_results_is_not_continued(files: MediaFiles) -> None:
    with pytest.raises(BadField) as raised:
        _chat(files, *CHAT[:2])
    assert raised.value.field == "messages.1.tool_calls"
    with pytest.raises(BadField) as raised:
        _responses(files, *ITEMS[:-1])
    assert raised.value.field == "input"
