"""POST /v1/responses as OpenAI's own client sees it, with the model `tiny`."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from openai import BadRequestError, OpenAI

ASK = "What is Q4_0?"
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
        "required": ["city"],
    },
    "strict": True,
}


def ask(openai: OpenAI, **fields: Any) -> Any:
    """Return the response to a request with `fields`."""
    asked: Any = {"model": "tiny", "input": ASK, "max_output_tokens": 16, **fields}
    return openai.responses.create(**asked)


@pytest.mark.slow
def test_a_response_is_what_a_chat_says(openai: OpenAI) -> None:
    response = ask(openai, instructions="Be short.")
    messages: Any = [{"role": "system", "content": "Be short."}, {"role": "user", "content": ASK}]
    chat = openai.chat.completions.create(model="tiny", messages=messages, max_tokens=16)
    assert response.output_text == chat.choices[0].message.content
    assert (response.object, response.model, response.store) == ("response", "tiny", False)
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    assert response.usage.output_tokens_details.reasoning_tokens == 0
    assert response.status == ("completed" if response.usage.output_tokens < 16 else "incomplete")


def test_a_stream_says_the_same(openai: OpenAI) -> None:
    whole = ask(openai)
    events = list(ask(openai, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress",
        "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:-1] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done"
    ]  # fmt: skip
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    last = events[-1].response
    assert "".join(deltas) == last.output_text == whole.output_text
    assert last.status == whole.status
    assert last.usage.output_tokens == whole.usage.output_tokens
    assert events[0].response.output == []


@pytest.mark.slow
def test_a_round_of_tools(openai: OpenAI) -> None:
    choice = {"type": "function", "name": "get_weather"}
    fields: Any = {"tools": [WEATHER], "max_output_tokens": 128, "parallel_tool_calls": False}
    events = list(ask(openai, **fields, tool_choice=choice, stream=True))
    (call,) = events[-1].response.output
    jsonschema.validate(json.loads(call.arguments), WEATHER["parameters"])
    (done,) = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert done.arguments == call.arguments
    history: Any = [
        {"role": "user", "content": ASK},
        {"type": "reasoning", "id": "rs_1", "summary": [],
         "content": [{"type": "reasoning_text", "text": "Look it up."}]},
        call.model_dump(exclude_none=True),
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]  # fmt: skip
    assert ask(openai, **fields, input=history).usage.input_tokens > 20


def test_an_answer_goes_back_as_it_came(openai: OpenAI) -> None:
    first = ask(openai)
    history = [{"role": "user", "content": ASK}, *first.output, {"role": "user", "content": "Why?"}]
    assert ask(openai, input=history).usage.input_tokens > first.usage.total_tokens


@pytest.mark.slow
def test_a_schema_is_kept(openai: OpenAI) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [7]}}, "required": ["a"]}
    form = {"type": "json_schema", "name": "x", "schema": {**schema, "additionalProperties": False}}
    response = ask(openai, text={"format": form}, max_output_tokens=64)
    assert json.loads(response.output_text) == {"a": 7}


@pytest.mark.slow
def test_the_notes_of_codex_change_nothing(openai: OpenAI) -> None:
    noted = ask(openai, extra_body={"client_metadata": {"x-codex-window-id": "1"}}, store=False)
    assert noted.output_text == ask(openai).output_text


def test_thinking(openai: OpenAI) -> None:
    response = ask(openai, reasoning={"effort": "low", "summary": "auto"})
    assert {item.type for item in response.output} <= {"reasoning", "message"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [{**WEATHER, "parameters": {"type": "object", "properties": {
            "n": {"type": "string", "pattern": "^a"}}}}]}, "tools.0.parameters: strict"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": ""}]}, "call_id"),
        ({"input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": "http://127.0.0.1/x.png", "detail": "auto"}]}]},
         "only data URIs are read"),
    ],
)  # fmt: skip
def test_what_cannot_be_obeyed_is_refused(
    openai: OpenAI, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequestError, match=message):
        ask(openai, **fields)
