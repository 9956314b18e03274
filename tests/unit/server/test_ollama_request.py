"""Requests in Ollama's form: what they ask for, and what is refused by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from g4cli.core.errors import BadField
from g4cli.core.units import LONGEST_S
from g4cli.operations.serving.requests import TurnRequest
from g4cli.prompt.messages import Media, Message, ToolCall
from g4cli.server.ollama_request import (
    ChatRequest,
    GenerateRequest,
    read_chat,
    read_duration,
    read_generate,
)

HELLO = [{"role": "user", "content": "Hi"}]


def _save(kind: str, data: str, field: str) -> Media:
    assert kind == "image"
    return Media("image", Path(f"{data}@{field}"))


def _chat(**fields: Any) -> TurnRequest:
    body = {"model": "tiny", "messages": HELLO, **fields}
    return read_chat(ChatRequest.model_validate(body), _save)


def _generate(**fields: Any) -> TurnRequest:
    body = {"model": "tiny", "prompt": "Hi", **fields}
    return read_generate(GenerateRequest.model_validate(body), _save)


def test_plain_questions() -> None:
    expected = TurnRequest(model="tiny", messages=(Message("user", "Hi"),), form_field="format")
    assert _chat() == _generate() == expected


def test_options_are_obeyed() -> None:
    options = {
        "seed": 7, "num_predict": 5, "temperature": 0.5, "top_k": 3, "top_p": 0.4, "min_p": 0.1,
        "repeat_penalty": 1.1, "repeat_last_n": 32, "presence_penalty": 0.2,
        "frequency_penalty": 0.3, "stop": ["END"],
        "num_keep": 0, "typical_p": 1.0, "tfs_z": 1, "mirostat": 0, "num_ctx": 2048,
    }  # fmt: skip
    request = _chat(options=options)
    assert request.sampling == {
        "seed": 7, "temp": 0.5, "top_k": 3, "top_p": 0.4, "min_p": 0.1, "repeat_penalty": 1.1,
        "repeat_last_n": 32, "presence_penalty": 0.2, "frequency_penalty": 0.3,
    }  # fmt: skip
    assert (request.max_tokens, request.stop) == (5, ("END",))


def test_an_answer_whose_calls_have_no_results_is_not_continued() -> None:
    call = {"function": {"name": "find", "arguments": {}}}
    with pytest.raises(BadField) as raised:
        _chat(messages=[*HELLO, {"role": "assistant", "tool_calls": [call]}])
    assert raised.value.field == "messages.1.tool_calls"


def test_minus_one_means_no_limit_and_a_random_seed() -> None:
    request = _chat(options={"num_predict": -1, "seed": -1})
    assert request.max_tokens == 0
    assert "seed" not in request.sampling


@pytest.mark.parametrize(
    "option",
    [{"num_gpu": 1}, {"num_thread": 4}, {"typical_p": 0.5}, {"mirostat": 1}, {"num_keep": 4},
     {"penalize_newline": True}, {"temperature": -1}, {"temprature": 1}],
)  # fmt: skip
def test_options_that_cannot_be_obeyed_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        _chat(options=option)
    assert raised.value.errors()[0]["loc"] == ("options", *option)


@pytest.mark.parametrize(
    "fields", [{"truncate": True}, {"shift": True}, {"_debug_render_only": True}]
)
def test_fields_of_chat_that_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _chat(**fields)


@pytest.mark.parametrize("fields", [{"suffix": "x"}, {"template": "x"}, {"context": [1]}])
def test_fields_of_generate_that_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _generate(**fields)


def test_a_round_of_tools() -> None:
    def call(name: str, **arguments: Any) -> dict[str, Any]:
        return {"function": {"name": name, "arguments": arguments}}

    tool = {"type": "function", "function": {"name": "a", "parameters": {"type": "object"}}}
    request = _chat(
        tools=[tool],
        messages=[
            *HELLO,
            {"role": "assistant", "thinking": "hm", "tool_calls": [call("a", x=1), call("b")]},
            {"role": "tool", "content": "first"},
            {"role": "tool", "content": "second", "tool_name": "b"},
            {"role": "assistant", "tool_calls": [{**call("c"), "id": "c1"}, call("d")]},
            {"role": "tool", "content": "third", "tool_call_id": "c1"},
        ],
    )
    assert request.tools == (tool,)
    assert request.messages[1:] == (
        Message("assistant", "", "hm", (ToolCall("a", {"x": 1}), ToolCall("b", {}))),
        Message("tool", "first", name="a"),
        Message("tool", "second", name="b"),
        Message("assistant", "", "", (ToolCall("c", {}), ToolCall("d", {}))),
        Message("tool", "third", name="c"),
    )


def test_images() -> None:
    (message,) = _chat(messages=[{**HELLO[0], "images": ["AAAA"]}]).messages
    assert message.media == (Media("image", Path("AAAA@messages.0.images.0")),)
    (message,) = _generate(images=["AAAA"]).messages
    assert message.media == (Media("image", Path("AAAA@images.0")),)


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "assistant", "images": ["AAAA"]}, "messages.0.images"),
        ({"role": "user", "tool_calls": [{"function": {"name": "a"}}]}, "messages.0.tool_calls"),
    ],
)
def test_fields_in_the_wrong_message(message: dict[str, Any], field: str) -> None:
    with pytest.raises(BadField) as raised:
        _chat(messages=[message])
    assert raised.value.field == field


@pytest.mark.parametrize(
    ("think", "expected"),
    [(None, "off"), (False, "off"), (True, "on"), ("low", "low"), ("max", "on")],
)
def test_thinking(think: Any, expected: str) -> None:
    assert _chat(think=think).thinking == expected


def test_formats() -> None:
    assert _chat(format="").json_schema == ""
    assert _chat(format="json").json_schema == '{"type": "object"}'
    assert _chat(format={"type": "array"}).json_schema == '{"type": "array"}'


def test_probabilities() -> None:
    assert _chat().n_probs is None
    assert _chat(logprobs=True).n_probs == 0
    assert _chat(logprobs=True, top_logprobs=3).n_probs == 3


def test_an_answer_to_be_continued() -> None:
    assert _chat(messages=[*HELLO, {"role": "assistant", "content": "Well,"}]).continue_last


def test_raw_prompts() -> None:
    request = _generate(raw=True, prompt="<bos>Once")
    assert (request.prompt, request.messages) == ("<bos>Once", ())
    with pytest.raises(BadField, match="system: a raw prompt is the whole prompt"):
        _generate(raw=True, system="rules")
    with pytest.raises(BadField, match="think: the answer to a raw prompt is plain text"):
        _generate(raw=True, think=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("250ms", 0.25), (10, 10), (-1, -1), ("-1s", -1),
     ("0", 0), (0, 0)],
)  # fmt: skip
def test_durations(value: Any, seconds: float) -> None:
    assert read_duration(value) == seconds
    assert _chat(keep_alive=value).keep_alive_s == seconds


def test_a_number_that_no_float_holds_is_the_longest_duration() -> None:
    assert read_duration(10**310) == LONGEST_S
    assert _chat(keep_alive=-(10**310)).keep_alive_s == -LONGEST_S


@pytest.mark.parametrize("value", ["5", "m", "5 m", "5x", "", True, [1]])
def test_texts_that_are_no_duration(value: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        read_duration(value)
