"""The answers of Ollama's API: a turn's events as JSON objects, and models as it lists them.

Source: docs/api.md and api/types.go of ollama/ollama. Durations are in nanoseconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any, Final, Literal
from uuid import uuid4

from g4cli.chat import Finished, PromptRead, Reply, TurnEvent
from g4cli.operations.serving.service import ServedModel
from g4cli.prompt.messages import ToolCall
from g4cli.prompt.reply import AnswerText, CallMade, SampledToken, ThoughtText
from g4cli.server.streaming import AnswerStream, encode_json

API_VERSION: Final = "0.13.0"
"""The version of Ollama whose API this is; editors refuse older ones."""
_NEVER: Final = datetime(2318, 1, 1, tzinfo=timezone.utc)  # as Ollama says "for ever"


class OllamaStream(AnswerStream):
    """The JSON lines of one answer.

    `kind` is the route: text comes as a `message` from /api/chat, as `response` from /api/generate.
    """

    media_type = "application/x-ndjson"

    def __init__(self, kind: Literal["chat", "generate"], model: str, *, started: float) -> None:
        """`started`: when the request came, by time.perf_counter."""
        self._kind, self._model, self._started = kind, model, started
        self._load_s = 0.0
        self._calls: list[dict[str, Any]] = []
        self._logprobs: list[dict[str, Any]] = []

    def convert(self, event: TurnEvent) -> Iterator[dict[str, Any]]:
        """Yield what a client is told of `event`."""
        if isinstance(event, PromptRead):
            # The time before the prompt was read: of loading the model, or of waiting for a slot.
            self._load_s = max(0.0, time.perf_counter() - self._started - event.seconds)
        elif isinstance(event, AnswerText):
            yield self._make_piece(content=event.text, tokens=event.tokens)
        elif isinstance(event, ThoughtText):
            yield self._make_piece(thinking=event.text, tokens=event.tokens)
        elif isinstance(event, CallMade):
            self._calls.append(_call_object(event.call, len(self._calls)))
            yield self._make_piece(calls=self._calls[-1:])
        elif isinstance(event, Finished):
            yield self._make_piece() | self._end_fields(event.reply)

    def make_whole(self, reply: Reply) -> dict[str, Any]:
        """Return the whole answer as one object, after its events were converted."""
        whole = self._make_piece(content=reply.text, thinking=reply.thought, calls=self._calls)
        logprobs = {"logprobs": self._logprobs} if self._logprobs else {}
        return whole | self._end_fields(reply) | logprobs

    def make_loaded(self, reason: Literal["load", "unload"]) -> dict[str, Any]:
        """Return the answer to a request without a prompt, which loads or unloads the model."""
        return self._make_piece() | {"done": True, "done_reason": reason}

    def encode(self, value: Mapping[str, Any]) -> str:
        """Return a line of JSON."""
        return encode_json(value) + "\n"

    def _make_piece(
        self,
        *,
        content: str = "",
        thinking: str = "",
        calls: Sequence[dict[str, Any]] = (),
        tokens: Sequence[SampledToken] = (),
    ) -> dict[str, Any]:
        piece: dict[str, Any] = {"model": self._model, "created_at": format_time(time.time())}
        extra: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if calls:
            extra["tool_calls"] = list(calls)
        if self._kind == "chat":
            piece["message"] = {"role": "assistant", "content": content, **extra}
        else:
            piece |= {"response": content, **extra}
        piece["done"] = False
        if tokens:
            piece["logprobs"] = [_logprob_object(token) for token in tokens]
            self._logprobs += piece["logprobs"]
        return piece

    def _end_fields(self, reply: Reply) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "done": True,
            "done_reason": "length" if reply.finish_reason == "length" else "stop",
            "total_duration": _to_nanoseconds(time.perf_counter() - self._started),
            "load_duration": _to_nanoseconds(self._load_s),
            "prompt_eval_count": reply.prompt_tokens,
            "prompt_eval_duration": _to_nanoseconds(reply.prompt_s),
            "eval_count": reply.completion_tokens,
            "eval_duration": _to_nanoseconds(reply.decode_s),
        }
        if reply.loop is not None:
            fields["g4"] = {"loop": asdict(reply.loop)}
        return fields


def describe_offer(model: ServedModel) -> dict[str, Any]:
    """Return a model as /api/tags lists it."""
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": format_time(model.modified),
        "size": model.nbytes,
        "digest": _find_digest(model),
        "details": describe_details(model),
        "capabilities": list_capabilities(model),
    }


def describe_loaded(model: ServedModel) -> dict[str, Any]:
    """Return a loaded model as /api/ps lists it."""
    expires = format_time(model.unload_at) if model.unload_at else _NEVER.isoformat()
    return {
        "name": model.name,
        "model": model.name,
        "size": model.memory_bytes,
        "digest": _find_digest(model),
        "details": describe_details(model),
        "expires_at": expires,
        "size_vram": model.gpu_bytes,
        "context_length": model.n_ctx,
    }


def _find_digest(model: ServedModel) -> str:
    """Return the sha256 of a model's file, or of what tells it from others if nobody computed it.

    Ollama's own program shows the first twelve characters, and crashes where there are none.
    """
    known = f"{model.path} {model.nbytes} {model.modified}"
    return model.sha256 or sha256(known.encode("utf-8", "surrogateescape")).hexdigest()


def describe_details(model: ServedModel) -> dict[str, Any]:
    """Return the `details` of a model."""
    size = (
        f"{model.n_params / 1e9:.1f}B" if model.n_params >= 1e8 else f"{model.n_params / 1e6:.2f}M"
    )
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "gemma4",
        "families": ["gemma4"],
        "parameter_size": size if model.n_params else "",
        "quantization_level": model.type.upper(),
        "context_length": model.n_ctx or model.n_ctx_train,
    }


def list_capabilities(model: ServedModel) -> list[str]:
    """Return what a model can do, by Ollama's names (types/model/capability.go)."""
    media = [("image", "vision"), ("audio", "audio")]
    known = [name for modality, name in media if modality in model.modalities]
    return ["completion", "tools", "thinking", *known]


def format_time(seconds: float) -> str:
    """Return a time of the Unix clock as RFC 3339 has it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


def _to_nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _call_object(call: ToolCall, index: int) -> dict[str, Any]:
    function = {"index": index, "name": call.name, "arguments": dict(call.arguments)}
    return {"id": f"call_{uuid4().hex}", "function": function}


def _logprob_object(token: SampledToken) -> dict[str, Any]:
    return token.as_json() | {"top_logprobs": [other.as_json() for other in token.top]}
