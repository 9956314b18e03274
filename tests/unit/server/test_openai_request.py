"""Requests in OpenAI's two forms: what of earlier answers becomes part of the prompt."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import pytest

from g4cli.chat import TurnOptions
from g4cli.core.errors import BadField
from g4cli.operations.serving.loaded import LoadedModel
from g4cli.operations.serving.media_files import MediaFiles
from g4cli.operations.serving.requests import TurnRequest
from g4cli.prompt.messages import Message, ToolCall
from g4cli.prompt.render import render
from g4cli.prompt.template import Renderer
from g4cli.runtime.engine.options import RANDOM_SEED, Sampling
from g4cli.server.llama_server import TemplateBody
from g4cli.server.openai_completions import CompletionBody, make_turn_requests
from g4cli.server.openai_messages import convert_messages
from g4cli.server.openai_messages import make_turn_request as read_chat
from g4cli.server.openai_request import ChatBody
from g4cli.server.responses_request import ResponsesBody
from g4cli.server.responses_request import make_turn_request as read_responses
from tests.support.builders.media_files import picture, png
from tests.support.fakes.scripted_engine import ScriptedEngine

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


def test_results_of_tools_stand_together(files: MediaFiles) -> None:
    calls = [
        {"type": "function_call", "call_id": name, "name": name, "arguments": "{}"}
        for name in ("see", "hear")
    ]
    data = base64.b64encode(png(picture(2, 2))).decode()
    image = [{"type": "input_image", "image_url": f"data:image/png;base64,{data}"}]
    results = [
        {"type": "function_call_output", "call_id": name, "output": output}
        for name, output in (("see", image), ("hear", "a bell"))
    ]
    text = {"role": "assistant", "content": "Wait."}
    request = _responses(files, CHAT[0], *calls, text, *results)
    assert [(m.role, m.name, m.content) for m in request.messages] == [
        ("user", "", "Where?"), ("assistant", "", "Wait."),
        ("tool", "see", ""), ("tool", "hear", "a bell"), ("user", "", ""),
    ]  # fmt: skip
    assert len(request.messages[1].tool_calls) == 2
    assert [medium.kind for medium in request.messages[-1].media] == ["image"]


def test_a_template_and_a_chat_join_the_first_system_messages(files: MediaFiles) -> None:
    systems = [{"role": role, "content": role} for role in ("system", "developer")]
    template = TemplateBody.model_validate({"messages": [*systems, CHAT[0]]})
    messages = convert_messages(template.messages, files)
    assert messages == _chat(files, *systems, CHAT[0]).messages
    assert [message.content for message in messages] == ["system\n\ndeveloper", "Where?"]


def test_results_without_ids_belong_to_the_calls_in_their_order(files: MediaFiles) -> None:
    calls = [{"function": {"name": name, "arguments": ""}} for name in ("see", "hear")]
    result = {"role": "tool", "content": "x"}
    request = _chat(files, {"role": "assistant", "tool_calls": calls}, result, result)
    assert [message.name for message in request.messages[1:]] == ["see", "hear"]
    with pytest.raises(BadField, match="no earlier call"):
        _chat(files, {"role": "assistant", "tool_calls": calls[:1]}, result, result)


def test_a_result_away_from_its_call_is_refused(files: MediaFiles) -> None:
    engine: Any = ScriptedEngine(lambda _: [])
    model = LoadedModel("tiny", engine, Renderer(render, False), Sampling(), TurnOptions())
    before = {"role": "user", "content": "Well?"}
    request = _chat(files, *CHAT[:2], before, CHAT[2])
    with pytest.raises(BadField, match="the result of a tool does not follow the message"):
        asyncio.run(model.render_parts(request))
    assert asyncio.run(model.render_parts(_chat(files, *CHAT, CHAT[2], before)))


@pytest.mark.parametrize("instructions", ["Be short.", None])
def test_the_instructions_and_system_messages_of_a_response_are_one_turn(
    files: MediaFiles, instructions: str | None
) -> None:
    texts = ["Say hello."] if instructions else ["Be short.", "Say hello."]
    items = [{"role": "developer", "content": text} for text in texts]
    body = ResponsesBody.model_validate({"input": items, "instructions": instructions})
    assert read_responses(body, files).messages == (Message("system", "Be short.\n\nSay hello."),)
    chat = _chat(
        files, *({"role": "system", "content": text} for text in ("Be short.", "Say hello."))
    )
    assert chat.messages == read_responses(body, files).messages


@pytest.mark.parametrize(("asked", "first"), [(None, 7), (3, 3), (0xFFFFFFFE, 0xFFFFFFFE)])
def test_each_choice_has_a_seed_of_its_own(asked: int | None, first: int) -> None:
    """As llama-server has it: the seed of the request, else that of the server, and the index."""
    engine: Any = ScriptedEngine(lambda _: [])
    model = LoadedModel("tiny", engine, Renderer(render, False), Sampling(seed=7), TurnOptions())
    body = CompletionBody(prompt="One", n=3, seed=asked)
    runs = [asyncio.run(model.make_run(request)) for request in make_turn_requests(body)]
    expected = [first, (first + 1) % RANDOM_SEED, (first + 2) % RANDOM_SEED]
    assert [run.sampling.seed for run in runs] == expected


def test_each_choice_has_a_random_seed_where_nobody_chose_one() -> None:
    engine: Any = ScriptedEngine(lambda _: [])
    model = LoadedModel("tiny", engine, Renderer(render, False), Sampling(), TurnOptions())
    for seed in (None, -1):
        requests = make_turn_requests(CompletionBody(prompt="One", n=3, seed=seed))
        runs = [asyncio.run(model.make_run(request)) for request in requests]
        assert {run.sampling.seed for run in runs} == {RANDOM_SEED}
