"""POST /v1/chat/completions as OpenAI's own client sees it, with the model `tiny`."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import jsonschema
import pytest
from openai import BadRequestError, OpenAI

from g4cli.core.gguf import read_header
from tests.support.run.server import RunningServer

ASK: Any = [{"role": "user", "content": "What is Q4_0?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city"],
        },
    },
}


def ask(openai: OpenAI, **fields: Any) -> Any:
    """Return the completion of a request with `fields`."""
    return openai.chat.completions.create(**{"model": "tiny", "messages": ASK, **fields})


def post(server: RunningServer, **fields: Any) -> httpx.Response:
    """Return the response to a body with `fields`."""
    body = {"model": "tiny", "messages": ASK, **fields}
    return httpx.post(f"{server.openai_url}/chat/completions", json=body, timeout=60)


def refusal(server: RunningServer, **fields: Any) -> tuple[str | None, str]:
    """Return the field that a request is refused for, and the message."""
    answer = post(server, **fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error["param"], error["message"]


def test_an_answer_has_its_figures(openai: OpenAI) -> None:
    done = ask(openai, max_tokens=12)
    (choice,) = done.choices
    assert (done.object, done.model, done.id[:9]) == ("chat.completion", "tiny", "chatcmpl-")
    assert choice.message.role == "assistant"
    assert choice.message.content.startswith("Q4_0 is")
    assert choice.finish_reason == "length"
    assert done.usage.completion_tokens == 12
    assert done.usage.total_tokens == done.usage.prompt_tokens + 12
    assert done.timings["predicted_n"] == 12
    again = ask(openai, max_tokens=12)
    assert again.choices[0].message.content == choice.message.content
    assert again.usage.prompt_tokens_details.cached_tokens == done.usage.prompt_tokens - 1


@pytest.mark.slow
def test_a_stream_says_the_same_as_a_whole_answer(openai: OpenAI) -> None:
    whole = ask(openai, max_tokens=20)
    options = {"include_usage": True}
    chunks = list(ask(openai, max_tokens=20, stream=True, stream_options=options))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].choices[0].delta.content == ""
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 20
    assert all(c.usage is None for c in chunks[:-1])
    assert len({c.id for c in chunks}) == 1


def test_a_stream_without_usage_ends_with_its_finish_reason(server: RunningServer) -> None:
    lines = post(server, stream=True, max_tokens=3).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    last = json.loads(lines[-3].removeprefix("data: "))
    assert last["choices"][0]["finish_reason"] == "length"
    assert last["timings"]["predicted_n"] == 3
    assert "usage" not in last


@pytest.mark.slow
def test_stop_strings_end_an_answer_and_are_not_part_of_it(openai: OpenAI) -> None:
    whole = ask(openai, max_tokens=20).choices[0].message.content
    stop = whole[8:12]
    for fields in ({"stop": stop}, {"stop": ["never", stop]}):
        done = ask(openai, max_tokens=20, **fields)
        assert done.choices[0].message.content == whole[: whole.index(stop)]
        assert done.choices[0].finish_reason == "stop"
        chunks = list(ask(openai, max_tokens=20, stream=True, **fields))
        streamed = "".join(c.choices[0].delta.content or "" for c in chunks)
        assert streamed == whole[: whole.index(stop)]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_answer(openai: OpenAI) -> None:
    fields: Any = {"temperature": 3, "top_p": 1.0, "extra_body": {"top_k": 0}, "max_tokens": 4}

    def answer(seed: int) -> str:
        return str(ask(openai, seed=seed, **fields).choices[0].message.content)

    pairs = [(answer(seed), answer(seed)) for seed in range(8)]
    # A cached prompt is computed in other batches than one that is read, which round differently:
    # at this temperature a last bit may choose another token. Chance alone makes no pair equal.
    assert sum(first == second for first, second in pairs) >= 2
    assert len({first for first, _ in pairs}) > 2


@pytest.mark.slow
def test_several_choices_share_a_prompt(openai: OpenAI) -> None:
    fields: Any = {
        "temperature": 3,
        "top_p": 1.0,
        "extra_body": {"top_k": 0, "ignore_eos": True},
        "max_tokens": 8,
        "seed": 7,
        "n": 3,
    }
    done = ask(openai, **fields)
    texts = [choice.message.content for choice in done.choices]
    assert [choice.index for choice in done.choices] == [0, 1, 2]
    assert len(set(texts)) > 1
    assert done.usage.completion_tokens == 24
    streamed = ["", "", ""]
    for chunk in ask(openai, stream=True, **fields):
        choice = chunk.choices[0]
        streamed[choice.index] += choice.delta.content or ""
    # Choices share batches, and kernels for batches of other sizes round differently: at this
    # temperature a last bit may choose another token.
    assert all(streamed)
    assert len(set(streamed)) > 1


@pytest.mark.slow
def test_a_biased_token_appears_or_does_not(server: RunningServer, openai: OpenAI) -> None:
    done = ask(openai, max_tokens=1, logprobs=True)
    first = done.choices[0].logprobs.content[0].model_extra["id"]
    other = ask(openai, max_tokens=1, logprobs=True, logit_bias={str(first): -100})
    assert other.choices[0].logprobs.content[0].model_extra["id"] != first
    assert refusal(server, logit_bias={"x": 1})[0] == "logit_bias.x"
    assert refusal(server, logit_bias={"900000000": 1})[0] == "logit_bias"


@pytest.mark.slow
def test_log_probabilities(openai: OpenAI) -> None:
    done = ask(openai, max_tokens=6, logprobs=True, top_logprobs=3)
    content = done.choices[0].logprobs.content
    assert b"".join(bytes(t.bytes) for t in content).decode() == done.choices[0].message.content
    assert all(len(t.top_logprobs) == 3 and t.logprob <= 0 for t in content)
    assert all(t.top_logprobs[0].token == t.token for t in content), "greedy"
    chunks = list(ask(openai, max_tokens=6, logprobs=True, top_logprobs=3, stream=True))
    streamed = [t for c in chunks if c.choices[0].logprobs for t in c.choices[0].logprobs.content]
    assert [t.token for t in streamed] == [t.token for t in content]


@pytest.mark.slow
def test_an_answer_is_json_where_that_is_asked_for(openai: OpenAI) -> None:
    form: Any = {"type": "json_object"}
    done = ask(openai, response_format=form, max_tokens=40, temperature=0.5, seed=1)
    if done.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(done.choices[0].message.content), dict)
    assert done.choices[0].message.content.startswith("{")
    schema = {"type": "object", "properties": {"n": {"enum": [2]}}, "required": ["n"],
              "additionalProperties": False}  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    done = ask(openai, response_format=form, max_tokens=60)
    assert json.loads(done.choices[0].message.content) == {"n": 2}


@pytest.mark.slow
def test_an_assistants_turn_is_continued(openai: OpenAI) -> None:
    whole = ask(openai, max_tokens=10).choices[0].message.content
    begun = whole[: whole.index(" a")]  # between two tokens
    turns = [*ASK, {"role": "assistant", "content": begun}]
    rest = ask(openai, messages=turns, max_tokens=3).choices[0].message.content
    assert whole.startswith(begun + rest)


@pytest.mark.slow
def test_a_system_text_may_come_in_several_messages(openai: OpenAI) -> None:
    one = [{"role": "system", "content": "A\n\nB"}, *ASK]
    two = [{"role": "developer", "content": "A"}, {"role": "system", "content": "B"}, *ASK]
    counts = [ask(openai, messages=m, max_tokens=1).usage.prompt_tokens for m in (one, two)]
    assert counts[0] == counts[1]


@pytest.mark.slow
def test_tools_and_their_results_are_part_of_the_prompt(openai: OpenAI) -> None:
    plain = ask(openai, max_tokens=1).usage.prompt_tokens
    with_tools = ask(openai, max_tokens=1, tools=[WEATHER]).usage.prompt_tokens
    assert with_tools > plain
    assert (
        ask(openai, max_tokens=1, tools=[WEATHER], tool_choice="none").usage.prompt_tokens == plain
    )
    call = {"id": "call_1", "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Bern"}'}}  # fmt: skip
    turns = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    done = ask(openai, messages=turns, tools=[WEATHER], max_tokens=1)
    assert done.usage.prompt_tokens > with_tools


REFUSED: Any = [
    ({"audio": {"voice": "a", "format": "wav"}}, "audio"),
    ({"functions": []}, "functions"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ({"store": True}, "store"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"verbosity": "high"}, "verbosity"),
    ({"modalities": ["text", "audio"]}, "modalities.1"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 2}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 1000}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"stop": [""]}, "stop"),
    ({"stop": ["x"] * 17}, "stop"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ({"tools": [WEATHER, WEATHER]}, "tools.1.function.name"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "king", "content": "x"}]}, "messages.0"),
    ({"messages": [{"role": "user", "content": "x", "name": "Ann"}]}, "messages.0.name"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    (
        {"messages": [{"role": "tool", "content": "x", "tool_call_id": "a"}]},
        "messages.0.tool_call_id",
    ),
    ({"chat_template_kwargs": {"custom": 1}}, "chat_template_kwargs.custom"),
    ({"wonder": 1}, "wonder"),
    ({"response_format": {"type": "xml"}}, "response_format"),
    ({"logit_bias": {"1": 1000}}, "logit_bias.1"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True,
      "schema": {"type": "array", "uniqueItems": True}}}}, "response_format"),
    ({"tools": [{"type": "function", "function": {"name": "f", "strict": True, "parameters": {
      "type": "object", "properties": {"a": {"type": "string", "format": "date"}}}}}]},
     "tools.0.function.parameters"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("fields", "name"), REFUSED, ids=[str(f)[:40] for f, _ in REFUSED])
def test_what_cannot_be_obeyed_is_refused_by_name(
    server: RunningServer, fields: Any, name: str
) -> None:
    param, message = refusal(server, **fields)
    assert param == name
    assert name in message


@pytest.mark.slow
def test_fields_that_change_nothing_are_accepted(openai: OpenAI) -> None:
    plain = ask(openai, max_tokens=5).choices[0].message.content
    fields: Any = {
        "user": "me",
        "metadata": {"a": "b"},
        "store": False,
        "service_tier": "auto",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "verbosity": "medium",
        "modalities": ["text"],
        "temperature": None,
    }
    assert ask(openai, max_tokens=5, **fields).choices[0].message.content == plain


@pytest.mark.slow
def test_an_image_of_another_address_or_none_at_all_is_refused(server: RunningServer) -> None:
    png = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
    cases = [
        ("http://127.0.0.1/x.png", "no address is opened"),
        ("file:///etc/passwd", "no address is opened"),
        ("/etc/passwd", "no address is opened"),
        ("data:image/png;base64,???", "not valid base64"),
        ("data:image/png;base64," + base64.b64encode(b"text").decode(), "not an image"),
        (png, "no encoder"),
    ]
    for url, what in cases:
        content = [{"type": "image_url", "image_url": {"url": url}}]
        param, message = refusal(server, messages=[{"role": "user", "content": content}])
        assert what in message
        assert param is not None


@pytest.mark.slow
def test_a_body_that_is_no_json_or_too_deep_is_refused(server: RunningServer) -> None:
    url = f"{server.openai_url}/chat/completions"
    for content in (b"", b"{", b"[]", b"\xff\xfe", b"nonsense", b'"text"'):
        answer = httpx.post(url, content=content, timeout=60)
        assert answer.status_code == 400, content
        assert answer.json()["error"]["message"]
    deep = b'{"messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert httpx.post(url, content=deep, timeout=60).status_code == 400
    shallow = b'{"metadata": ' + b'{"a":' * 100 + b"1" + b"}" * 100 + b"}"
    assert "deep" in httpx.post(url, content=shallow, timeout=60).json()["error"]["message"]


def test_a_prompt_that_does_not_fit_says_so(openai: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        ask(openai, messages=[{"role": "user", "content": "word " * 3000}])
    assert caught.value.code == "context_length_exceeded"


def test_curl_needs_no_content_type(server: RunningServer) -> None:
    body = json.dumps({"messages": ASK, "max_tokens": 1})
    answer = httpx.post(
        f"{server.url}/chat/completions",
        content=body,
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        timeout=60,
    )
    assert answer.status_code == 200


CITY: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"enum": ["Bern", 'Santiago "de" Chile']},
                "days": {"type": "array", "items": {"enum": [1, 2, None]}, "maxItems": 3},
                "exact": {"type": "boolean"},
            },
            "required": ["city", "exact"],
        },
        "strict": True,
    },
}
TIME: Any = {"type": "function", "function": {"name": "get_time"}}


def check_call(call: Any) -> None:
    """Assert that a call is one of CITY and matches its schema."""
    assert (call.type, call.function.name, call.id[:5]) == ("function", "get_weather", "call_")
    arguments = json.loads(call.function.arguments)
    jsonschema.validate(arguments, CITY["function"]["parameters"])


@pytest.mark.slow_except("True-0")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("thinking", [False, True])
def test_a_tool_that_must_be_called_is_called_with_valid_arguments(
    openai: OpenAI, seed: int, thinking: bool
) -> None:
    name: Any = {"type": "function", "function": {"name": "get_weather"}}
    fields: Any = {
        "tools": [CITY, TIME],
        "tool_choice": name,
        "parallel_tool_calls": False,
        "temperature": 3,
        "seed": seed,
        "extra_body": {"chat_template_kwargs": {"enable_thinking": thinking}, "top_k": 0},
        "max_tokens": 900,
        "reasoning_effort": "low" if thinking else None,
    }
    done = ask(openai, **fields)
    (choice,) = done.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    (call,) = choice.message.tool_calls
    check_call(call)
    chunks = list(ask(openai, stream=True, **fields))
    # What is cached by now is computed in other batches, which round differently: at this
    # temperature it may be another call, but a valid one.
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    (call,) = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or ()]
    check_call(call)


@pytest.mark.slow
def test_an_answer_may_be_json_after_a_thought(openai: OpenAI) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [1]}}, "required": ["n"],
              "additionalProperties": False}  # fmt: skip
    form: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    done = ask(openai, response_format=form, reasoning_effort="low", max_tokens=400)
    assert json.loads(done.choices[0].message.content) == {"n": 1}


@pytest.mark.slow
def test_a_call_that_the_model_chooses_to_make_is_valid_too(
    server: RunningServer, openai: OpenAI
) -> None:
    path = server.service.find_model("tiny").path
    tokens: Any = read_header(path).keys["tokenizer.ggml.tokens"].data
    bias: Any = {str(tokens.tolist().index("<|tool_call>")): 100}
    n_calls = 0
    for seed in range(20):  # some answers are cut off before the call ends
        fields: Any = {"temperature": 3, "seed": seed, "max_tokens": 300, "logit_bias": bias}
        done = ask(openai, tools=[CITY, TIME], parallel_tool_calls=False, **fields)
        if done.choices[0].finish_reason == "tool_calls":
            (call,) = done.choices[0].message.tool_calls
            n_calls += 1
            if call.function.name == "get_weather":
                check_call(call)
            else:
                assert (call.function.name, call.function.arguments[0]) == ("get_time", "{")
        if n_calls == 2:
            break
    assert n_calls
