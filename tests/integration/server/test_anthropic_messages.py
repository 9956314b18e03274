"""POST /v1/messages as Anthropic's own client sees it, with the model `tiny`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from anthropic import Anthropic, BadRequestError, NotFoundError

from tests.support.run.server import RunningServer

ASK: Any = [{"role": "user", "content": "What is Q4_0?"}]
TOOL: Any = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Rome"]}},
        "required": ["city"],
    },
}


@pytest.fixture
def anthropic(server: RunningServer) -> Iterator[Anthropic]:
    """Return Anthropic's own client of the server."""
    with Anthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        yield client


def ask(anthropic: Anthropic, **fields: Any) -> Any:
    """Return the message that answers a request with `fields`."""
    return anthropic.messages.create(
        **{"model": "tiny", "messages": ASK, "max_tokens": 12, **fields}
    )


def test_an_answer_has_its_figures(anthropic: Anthropic) -> None:
    message = ask(anthropic)
    assert (message.type, message.role, message.model) == ("message", "assistant", "tiny")
    (block,) = message.content
    assert block.text.startswith("Q4_0 is")
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 12
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens > 5


@pytest.mark.slow
def test_a_stream_is_the_same_answer(anthropic: Anthropic) -> None:
    whole = ask(anthropic)
    with anthropic.messages.stream(model="tiny", messages=ASK, max_tokens=12) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert kinds[0] == "message_start"
    assert kinds[-1] == "message_stop"
    assert final.content[0].text == whole.content[0].text
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_stop_sequences(anthropic: Anthropic) -> None:
    message = ask(anthropic, stop_sequences=[" is"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", " is")
    assert message.content[0].text == "Q4_0"


@pytest.mark.slow
def test_the_begin_of_an_answer_is_continued(anthropic: Anthropic) -> None:
    first = ask(anthropic, max_tokens=4).content[0].text
    rest = ask(anthropic, messages=[*ASK, {"role": "assistant", "content": first}], max_tokens=8)
    assert first + rest.content[0].text == ask(anthropic).content[0].text


@pytest.mark.slow
def test_a_schema_is_kept_to(anthropic: Anthropic) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [7]}}, "required": ["a"]}
    form = {"type": "json_schema", "schema": {**schema, "additionalProperties": False}}
    message = ask(anthropic, output_config={"format": form}, max_tokens=64)
    assert json.loads(message.content[0].text) == {"a": 7}  # white space is free


@pytest.mark.slow
def test_the_only_tool_must_be_called(anthropic: Anthropic) -> None:
    choice = {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}
    message = ask(anthropic, tools=[TOOL], tool_choice=choice, max_tokens=64)
    call = message.content[-1]
    assert message.stop_reason == "tool_use"
    assert (call.type, call.name, call.input) == ("tool_use", "get_weather", {"city": "Rome"})
    again = [
        *ASK,
        {"role": "assistant", "content": [block.model_dump() for block in message.content]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Sun."}],
        },
    ]
    assert ask(anthropic, tools=[TOOL], messages=again).usage.output_tokens == 12


def test_a_thought_within_its_budget(anthropic: Anthropic) -> None:
    thinking = {"type": "enabled", "budget_tokens": 4}
    message = ask(anthropic, thinking=thinking, max_tokens=40)
    assert message.usage.output_tokens <= 40
    assert message.content[-1].type == "text"


def test_tokens_are_counted_as_they_are_read(anthropic: Anthropic) -> None:
    fields: Any = {"model": "tiny", "messages": ASK, "system": "Be brief.", "tools": [TOOL]}
    count = anthropic.messages.count_tokens(**fields).input_tokens
    usage = ask(anthropic, **fields).usage
    assert count == usage.input_tokens + usage.cache_read_input_tokens


@pytest.mark.slow
def test_errors_have_the_form_of_anthropic(anthropic: Anthropic) -> None:
    with pytest.raises(NotFoundError) as missing:
        ask(anthropic, model="claude-opus")
    assert missing.value.body["error"]["type"] == "not_found_error"
    with pytest.raises(BadRequestError) as refused:
        ask(anthropic, extra_body={"container": "x"})
    assert refused.value.body == {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "container: this field is unknown to g4",
        },
    }
    url = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x.png"}}
    with pytest.raises(BadRequestError, match=r"messages\.0\.content\.0\.source\.type"):
        ask(anthropic, messages=[{"role": "user", "content": [url]}])
    with pytest.raises(BadRequestError, match="context"):
        ask(anthropic, messages=[{"role": "user", "content": "word " * 3000}])


@pytest.mark.slow
def test_a_body_that_is_no_json(server: RunningServer) -> None:
    answer = httpx.post(f"{server.url}/v1/messages", content=b"{", timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
