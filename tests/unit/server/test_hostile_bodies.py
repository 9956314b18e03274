"""Requests that would cost a server far more than a client: refused early, in bounded time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from g4cli.core.errors import BadField, error_of
from g4cli.server.errors import explain_error
from g4cli.server.limits import MAX_PARTS
from g4cli.server.ollama_request import read_duration
from g4cli.server.openai_completions import CompletionBody
from g4cli.server.openai_request import ChatBody
from g4cli.server.streaming import run_together
from tests.support.growth import assert_linear


def test_a_long_duration_is_refused_before_it_is_read() -> None:
    def read(n: int) -> None:
        with pytest.raises(ValueError, match="a duration is"):
            read_duration("1" * n)

    assert_linear(read, 4_000)


def test_the_longest_duration_is_still_a_date() -> None:
    assert read_duration(1e300) < 1e10
    assert read_duration("999999999999h") == read_duration(1e300)
    assert read_duration(-1) == -1


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": [1] * (MAX_PARTS + 1)}]},
        {"messages": [], **{f"x{n}": 0 for n in range(MAX_PARTS + 1)}},
        {"messages": [{"role": "user", "content": "x"}], "modalities": ["x"] * (MAX_PARTS + 1)},
    ],
    ids=["items", "fields", "words"],
)
def test_too_many_parts_are_one_error(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as raised:
        ChatBody.model_validate(fields)
    (error,) = raised.value.errors()
    assert "more than 50,000 fields and items" in error["msg"]


def test_a_prompt_of_token_ids_may_be_long() -> None:
    tokens = list(range(MAX_PARTS + 1))
    assert CompletionBody.model_validate({"prompt": tokens}).prompt == tokens
    assert CompletionBody.model_validate({"prompt": [tokens]}).prompt == [tokens]


def test_a_bug_in_the_process_of_the_model_is_not_told_to_clients() -> None:
    problem = explain_error(error_of("error", "Traceback: /home/ann/secret.py", None))
    assert (problem.status, "secret" in problem.message) == (500, False)


def test_when_one_of_several_answers_fails_the_others_end() -> None:
    ended = []

    async def wait() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(True)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise BadField("n", "no")

    with pytest.raises(BadField):
        asyncio.run(run_together([wait(), fail(), wait()]))
    assert ended == [True, True]
