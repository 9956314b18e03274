"""`response_format` as OpenAI's own client uses it: streams, thoughts, tools, refusals."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from openai import BadRequestError, OpenAI

from g4cli.core.gguf import read_header
from tests.support.run.server import RunningServer

ASK: Any = [{"role": "user", "content": "What is Q4_0?"}]
DOG: Any = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "weight": {"type": "number", "minimum": 1, "maximum": 90},
        "born": {"type": "string", "format": "date"},
    },
    "required": ["name", "weight", "born"],
    "additionalProperties": False,
}
FIND: Any = {
    "type": "function",
    "function": {
        "name": "find",
        "parameters": {
            "type": "object",
            "properties": {"n": {"type": "integer", "minimum": 10, "maximum": 12}},
            "required": ["n"],
        },
    },
}


def make_format(schema: Any) -> Any:
    named = {"name": "dog", "schema": schema, "strict": True}
    return {"type": "json_schema", "json_schema": named}


def ask(openai: OpenAI, **fields: Any) -> Any:
    request = {"model": "tiny", "messages": ASK, "max_tokens": 400, **fields}
    return openai.chat.completions.create(**request)


def read_stream(openai: OpenAI, **fields: Any) -> tuple[str, str, list[Any], str]:
    """Return the answer, its thought, its calls and why it ended."""
    text, thought, calls, reason = "", "", [], ""
    for chunk in ask(openai, stream=True, **fields):
        (choice,) = chunk.choices
        text += choice.delta.content or ""
        thought += getattr(choice.delta, "reasoning_content", None) or ""
        calls += choice.delta.tool_calls or []
        reason = choice.finish_reason or reason
    return text, thought, calls, reason


def check_dog(text: str) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.validate(json.loads(text), DOG, format_checker=checker)


@pytest.fixture
def marks(server: RunningServer) -> dict[str, str]:
    """Return the ids of the tokens that begin and end a thought, and begin a call."""
    path = server.service.find_model("tiny").path
    tokens: Any = read_header(path).keys["tokenizer.ggml.tokens"].data
    names = {"open": "<|channel>", "close": "<channel|>", "call": "<|tool_call>"}
    return {key: str(tokens.tolist().index(name)) for key, name in names.items()}


@pytest.mark.parametrize("temperature", [0, 2.0])
def test_a_stream_obeys_a_schema(openai: OpenAI, temperature: float) -> None:
    fields: Any = {"temperature": temperature, "seed": 5, "response_format": make_format(DOG)}
    text, _, _, reason = read_stream(openai, **fields)
    assert reason == "stop"
    check_dog(text)


def test_a_stream_of_any_object(openai: OpenAI) -> None:
    """Any object may go on as long as it likes: cut off or not, it says which."""
    form = {"type": "json_object"}
    text, _, _, reason = read_stream(openai, response_format=form, max_tokens=60, temperature=0)
    assert text.lstrip().startswith("{")
    if reason == "stop":
        assert isinstance(json.loads(text), dict)
    else:
        assert reason == "length"


def test_the_thought_is_free_has_a_budget_and_the_answer_is_bound(
    openai: OpenAI, marks: dict[str, str]
) -> None:
    """The model may not end its thought by itself: g4 ends it, and the answer obeys."""
    bias: Any = {marks["close"]: -100}
    fields: Any = {"response_format": make_format(DOG), "reasoning_effort": "low",
                   "logit_bias": bias, "max_tokens": 700, "extra_body":
                   {"g4": {"stop_on_loop": False}}}  # fmt: skip
    text, thought, _, reason = read_stream(openai, **fields)
    assert reason == "stop"
    check_dog(text)
    assert thought
    whole = ask(openai, **fields).choices[0].message
    assert (whole.content, whole.reasoning_content) == (text, thought.strip())


@pytest.mark.parametrize("effort", ["none", "low"])
@pytest.mark.parametrize("calls", [False, True])
def test_an_answer_is_a_call_or_obeys_a_schema(
    openai: OpenAI, marks: dict[str, str], *, calls: bool, effort: str
) -> None:
    fields: Any = {
        "tools": [FIND], "response_format": make_format(DOG), "parallel_tool_calls": False,
        "logit_bias": {marks["call"]: 100 if calls else -100}, "temperature": 0,
        "reasoning_effort": effort, "max_tokens": 700,
    }  # fmt: skip
    text, _, found, reason = read_stream(openai, **fields)
    if calls:
        assert reason == "tool_calls"
        assert json.loads(found[0].function.arguments)["n"] in (10, 11, 12)
        assert text == ""
    else:
        assert (reason, found) == ("stop", [])
        check_dog(text)


def test_an_answer_that_is_cut_off_says_so(openai: OpenAI) -> None:
    fields: Any = {"response_format": make_format(DOG), "max_tokens": 4}
    assert ask(openai, **fields).choices[0].finish_reason == "length"
    assert read_stream(openai, **fields)[3] == "length"


REFUSED: Any = [
    ({"items": {"uniqueItems": True}}, "uniqueItems at #/items cannot be enforced"),
    ({"properties": {"a": {"format": "color"}}}, "format 'color' at #/properties/a"),
    # These are refused by llguidance alone.
    ({"properties": {"a": {"oneOf": [{"type": "integer"}, {"type": "number"}]}}},
     "#/properties/a: oneOf"),
    ({"items": {"pattern": "(?=a)b", "type": "string"}}, "#/items: "),
    ({"type": "number", "minimum": 1e30}, "minimum 1e+30 at #"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("schema", "said"), REFUSED, ids=range(len(REFUSED)))
def test_a_schema_that_cannot_be_enforced_is_refused_by_its_place(
    openai: OpenAI, schema: Any, said: str, *, stream: bool
) -> None:
    with pytest.raises(BadRequestError) as caught:
        list(ask(openai, response_format=make_format(schema), stream=stream))
    assert caught.value.param == "response_format"
    assert said in caught.value.message
