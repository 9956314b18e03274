"""The events of a turn in Ollama's form, judged by the types of the `ollama` package."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ollama
import pytest

from g4cli.chat import Finished, FoundLoop, PromptRead, Reply, TurnEvent
from g4cli.operations.serving.service import ServedModel
from g4cli.prompt.messages import ToolCall
from g4cli.prompt.reply import AnswerText, CallMade, SampledToken, ThoughtText, TokenProbability
from g4cli.server.ollama_answer import (
    OllamaStream,
    describe_loaded,
    describe_offer,
)

# Reply.interrupted() has every figure 0; what matters here is replaced.
REPLY = replace(
    Reply.interrupted(), finish_reason="stop", text="Yes!", thought="hm",
    prompt_tokens=12, tokens=(5,) * 7, prompt_s=0.5, decode_s=1.5,
)  # fmt: skip
MODEL = ServedModel(
    "e2b:q4_0", Path("e2b.gguf"), ("e2b",), sha256="ab" * 32, type="q4_0", nbytes=3_000_000_000,
    modified=1_750_000_000, n_params=4_600_000_000, n_ctx_train=131072,
    modalities=("text", "image"), n_ctx=8192,
)  # fmt: skip

ANY_START = 0.0  # when the request came, for tests that look at no durations


def _convert(stream: OllamaStream, *events: TurnEvent) -> list[dict[str, Any]]:
    return [wire for event in events for wire in stream.convert(event)]


def test_a_chat() -> None:
    stream = OllamaStream("chat", "tiny", started=time.perf_counter() - 2.5)
    call = CallMade(ToolCall("find", {"x": 1}))
    told = _convert(
        stream, PromptRead(12, 0, 0.5), ThoughtText("hm"), AnswerText("Yes"), AnswerText("!"), call,
        call, Finished(REPLY),
    )  # fmt: skip
    read = [ollama.ChatResponse.model_validate(wire) for wire in told]
    assert [item.done for item in read] == [False] * 5 + [True]
    assert read[0].message.thinking == "hm"
    assert "".join(item.message.content for item in read) == "Yes!"
    assert [item.message.tool_calls[0].function.arguments for item in read[3:5]] == [{"x": 1}] * 2
    assert told[4]["message"]["tool_calls"][0]["function"]["index"] == 1
    last = read[-1]
    assert (last.done_reason, last.prompt_eval_count, last.eval_count) == ("stop", 12, 7)
    assert (last.prompt_eval_duration, last.eval_duration) == (500_000_000, 1_500_000_000)
    # The request came 2.5 s ago, and 0.5 s of that went into reading the prompt.
    assert 2_000_000_000 <= last.load_duration <= last.total_duration
    whole = ollama.ChatResponse.model_validate(stream.make_whole(REPLY))
    assert (whole.message.content, whole.message.thinking, whole.done) == ("Yes!", "hm", True)
    assert len(whole.message.tool_calls) == 2


def test_a_completion() -> None:
    stream = OllamaStream("generate", "tiny", started=ANY_START)
    told = _convert(stream, ThoughtText("hm"), AnswerText("Yes!"), Finished(REPLY))
    read = [ollama.GenerateResponse.model_validate(wire) for wire in told]
    assert (read[0].thinking, read[1].response, read[2].done) == ("hm", "Yes!", True)
    assert stream.make_whole(REPLY)["response"] == "Yes!"


def test_probabilities() -> None:
    # b"\xc3" is half a character: only its bytes can show it.
    top = (
        TokenProbability(5, b"Yes", -0.5),
        TokenProbability(6, b"\xc3", -1.5),
        TokenProbability(7, b"<pad>", -math.inf),
    )
    token = SampledToken(5, b"Yes", -0.5, top)
    stream = OllamaStream("chat", "tiny", started=ANY_START)
    told = _convert(stream, AnswerText("Yes", (token,)), AnswerText("!", (token,)))
    (first,) = ollama.ChatResponse.model_validate(told[0]).logprobs
    assert (first.token, first.logprob) == ("Yes", -0.5)
    assert [other.logprob for other in first.top_logprobs] == [-0.5, -1.5, -9999]
    assert told[0]["logprobs"][0]["top_logprobs"][1]["bytes"] == [0xC3]
    assert len(stream.make_whole(REPLY)["logprobs"]) == 2


def test_ends() -> None:
    loop = replace(REPLY, finish_reason="loop", loop=FoundLoop("la ", 2, 5, 60))
    (told,) = _convert(OllamaStream("chat", "tiny", started=ANY_START), Finished(loop))
    assert (told["g4"]["loop"]["unit"], told["done_reason"]) == ("la ", "stop")
    length = replace(REPLY, finish_reason="length")
    (told,) = _convert(OllamaStream("chat", "tiny", started=ANY_START), Finished(length))
    assert told["done_reason"] == "length"


@pytest.mark.parametrize("kind", ["chat", "generate"])
def test_loading(kind: Any) -> None:
    answer = OllamaStream(kind, "tiny", started=ANY_START).make_loaded("unload")
    assert (answer["done"], answer["done_reason"]) == (True, "unload")


def test_lists_of_models() -> None:
    (tag,) = ollama.ListResponse.model_validate({"models": [describe_offer(MODEL)]}).models
    assert (tag.model, tag.size, tag.digest) == ("e2b:q4_0", 3_000_000_000, "ab" * 32)
    assert (tag.details.parameter_size, tag.details.quantization_level) == ("4.6B", "Q4_0")
    assert describe_offer(MODEL)["capabilities"] == ["completion", "tools", "thinking", "vision"]
    # A file that nobody hashed.
    others = [replace(MODEL, sha256="", nbytes=nbytes) for nbytes in (1, 2)]
    digests = {describe_offer(other)["digest"] for other in others}
    assert [len(digest) for digest in digests] == [64, 64]
    # Ollama's "for ever".
    never = datetime(2318, 1, 1, tzinfo=timezone.utc).timestamp()
    for unload_at, expires in ((0, never), (1_750_000_300, 1_750_000_300)):
        loaded = describe_loaded(replace(MODEL, unload_at=unload_at, memory_bytes=5, gpu_bytes=3))
        (row,) = ollama.ProcessResponse.model_validate({"models": [loaded]}).models
        assert (row.size, row.size_vram, row.context_length) == (5, 3, 8192)
        assert row.expires_at.timestamp() == expires
