"""The answer to a chat completion: one JSON object, or a stream of chunks.

Source: openai-python, src/openai/types/chat/chat_completion.py and chat_completion_chunk.py;
`reasoning_content` and `timings` are llama-server's (llama.cpp, tools/server/README.md); `g4` is an
extension: {"loop": {...}} of an answer in which a loop was found, whether that ended it or not.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from g4cli import __version__
from g4cli.chat import Finished, Reply, TurnEvent
from g4cli.operations.serving.requests import TurnRequest
from g4cli.operations.serving.service import Service
from g4cli.prompt.messages import ToolCall
from g4cli.prompt.reply import AnswerText, CallMade, SampledToken, ThoughtText, tokens_to_json
from g4cli.server.streaming import encode_event, read_whole


@dataclass(frozen=True, slots=True)
class AnswerId:
    """What a response, or all chunks of a streamed one, begin with. `created`: in Unix seconds."""

    id: str
    created: int
    model: str

    @classmethod
    def new(cls, model: str, prefix: str = "chatcmpl-") -> AnswerId:
        """Return the id of a response that begins now."""
        return cls(prefix + secrets.token_hex(12), int(time.time()), model)

    def as_fields(self, kind: str) -> dict[str, Any]:
        """Return the fields that begin a response or a chunk, whose `object` is `kind`."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": f"g4-{__version__}",
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """One finished answer, with the tokens of its text where log-probabilities were asked for."""

    reply: Reply
    tokens: Sequence[SampledToken]


async def collect_choice(service: Service, request: TurnRequest) -> Choice:
    """Return the finished answer to `request`.

    Raises what Service.start_turn raises, and Interrupted if the answer was stopped.
    """
    tokens: list[SampledToken] = []
    async with service.start_turn(request) as turn:
        async for event in read_whole(turn):
            if isinstance(event, AnswerText):
                tokens += event.tokens
    assert isinstance(event, Finished)
    return Choice(event.reply, tokens)


def make_completion(
    answer: AnswerId, choices: Sequence[Choice], *, logprobs: bool
) -> dict[str, Any]:
    """Return the response with all choices."""
    replies = [choice.reply for choice in choices]
    return {
        **answer.as_fields("chat.completion"),
        "choices": [
            {
                "index": index,
                "message": _make_message(choice.reply),
                "logprobs": {"content": tokens_to_json(choice.tokens)} if logprobs else None,
                "finish_reason": finish_reason(choice.reply),
            }
            for index, choice in enumerate(choices)
        ],
        "usage": make_usage(replies, len(replies)),
        "timings": make_timings(replies[0]),
        **describe_loops(replies),
    }


def _make_message(reply: Reply) -> dict[str, Any]:
    calls = [make_call(call) for call in reply.tool_calls]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": reply.text if reply.text or not calls else None,
        "refusal": None,
    }
    if reply.thought:
        message["reasoning_content"] = reply.thought
    if calls:
        message["tool_calls"] = calls
    return message


def make_call(call: ToolCall) -> dict[str, Any]:
    """Return a call in OpenAI's form, with an id of its own."""
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    function = {"name": call.name, "arguments": arguments}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def finish_reason(reply: Reply) -> str:
    """Return OpenAI's name for why an answer ended; a loop is a "stop" (see `describe_loops`)."""
    if reply.tool_calls and reply.finish_reason == "stop":
        return "tool_calls"
    return "length" if reply.finish_reason == "length" else "stop"


def make_usage(replies: Sequence[Reply], n: int) -> dict[str, Any]:
    """Return the tokens that a response took; `n` replies in a row answer the same prompt.

    The tokens of each prompt count once, and so do those of them that its first reply found in the
    KV cache.
    """
    firsts = replies[::n]
    prompt = sum(reply.prompt_tokens for reply in firsts)
    completion = sum(reply.completion_tokens for reply in replies)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(reply.reused_tokens for reply in firsts)},
    }


def make_timings(reply: Reply) -> dict[str, Any]:
    """Return llama-server's figures of one answer (tools/server/server-common.h result_timings)."""
    n_prompt, n_predicted = reply.evaluated_tokens, reply.completion_tokens
    prompt_ms, predicted_ms = reply.prompt_s * 1e3, reply.decode_s * 1e3
    return {
        "cache_n": reply.reused_tokens,
        "prompt_n": n_prompt,
        "prompt_ms": prompt_ms,
        "prompt_per_token_ms": prompt_ms / n_prompt if n_prompt else 0.0,
        "prompt_per_second": reply.prompt_tps,
        "predicted_n": n_predicted,
        "predicted_ms": predicted_ms,
        "predicted_per_token_ms": predicted_ms / n_predicted if n_predicted else 0.0,
        "predicted_per_second": reply.decode_tps,
    }


def describe_loops(replies: Sequence[Reply]) -> dict[str, Any]:
    """Return the field `g4`, which tells of the first choice with a loop; no field without one."""
    loops = [reply.loop for reply in replies]
    reports = (
        {"choice": index, **asdict(loop)} for index, loop in enumerate(loops) if loop is not None
    )
    first = next(reports, None)
    return {"g4": {"loop": first}} if first else {}


class ChunkWriter:
    """Writes the chunks of one choice of a streamed completion."""

    def __init__(self, answer: AnswerId, index: int, *, include_usage: bool) -> None:
        self._answer, self._index, self._include_usage = answer, index, include_usage
        self._n_calls = 0
        self.reply: Reply | None = None

    def write_role(self) -> str:
        """Return the first chunk, which says who speaks."""
        return self._write({"role": "assistant", "content": ""})

    def write_event(self, event: TurnEvent) -> str:
        """Return the chunk of an event; "" if it has none."""
        if isinstance(event, AnswerText):
            return self._write({"content": event.text}, tokens=event.tokens)
        if isinstance(event, ThoughtText):
            return self._write({"reasoning_content": event.text})
        if isinstance(event, CallMade):
            call = {"index": self._n_calls, **make_call(event.call)}
            self._n_calls += 1
            return self._write({"tool_calls": [call]})
        if isinstance(event, Finished):
            self.reply = event.reply
            last = {} if self._include_usage else {"timings": make_timings(event.reply)}
            loops = describe_loops([event.reply])
            return self._write({}, finish=finish_reason(event.reply), more={**last, **loops})
        return ""

    def _write(
        self,
        delta: Mapping[str, Any],
        *,
        tokens: Sequence[SampledToken] = (),
        finish: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> str:
        choice = {
            "index": self._index,
            "delta": delta,
            "logprobs": {"content": tokens_to_json(tokens)} if tokens else None,
            "finish_reason": finish,
        }
        chunk = {**self._answer.as_fields("chat.completion.chunk"), "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        return encode_event({**chunk, **(more or {})})


def write_usage_chunk(answer: AnswerId, replies: Sequence[Reply]) -> str:
    """Return the last chunk of a stream with `stream_options.include_usage`."""
    chunk = {
        **answer.as_fields("chat.completion.chunk"),
        "choices": [],
        "usage": make_usage(replies, len(replies)),
        "timings": make_timings(replies[0]),
    }
    return encode_event(chunk)
