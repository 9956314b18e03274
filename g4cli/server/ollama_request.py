"""The bodies of Ollama's /api/chat and /api/generate, and the TurnRequest that they ask for.

Source: docs/api.md and api/types.go of ollama/ollama; the `ollama` package 0.6.

Ollama itself ignores options that it does not know. Here an option is obeyed or refused by its
name. Refused are those that are decided when the server starts (`num_ctx` beyond the context that
it gives, `num_gpu`, `num_thread`), samplers that g4 does not have, and whatever would let a prompt
be cut without a word (`truncate`, `shift`, `num_keep`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, JsonValue

from g4cli.core.errors import BadField, UsageError
from g4cli.core.units import LONGEST_S, parse_duration
from g4cli.operations.serving.requests import Thinking, TurnRequest, continues_last
from g4cli.prompt.messages import Media, Message, ToolCall
from g4cli.server.declarations import (
    SamplingParameters,
    declare_tools,
    encode_schema,
    read_sampling,
)
from g4cli.server.limits import (
    MAX_MESSAGES,
    MAX_STOP_STRINGS,
    MAX_TOKENS,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
)
from g4cli.server.media_data import SaveMedia
from g4cli.server.wire_model import RequestBody, StopString, WireModel

# Fields that a request without a prompt may have; it loads or unloads a model. `ollama run` sends
# `think` in one to learn whether the model can think: each Gemma 4 can.
_LOAD_FIELDS: Final = ("model", "messages", "prompt", "stream", "keep_alive", "options", "think")
_REFUSED_IN_RAW: Final = {
    "system": "a raw prompt is the whole prompt",
    "images": "a raw prompt is the whole prompt",
    "think": "the answer to a raw prompt is plain text",
    "format": "the answer to a raw prompt is plain text",
}


def read_duration(value: object) -> float:
    """Return a duration in seconds, below 0 for "for ever": a number of seconds, or Go's "1h30m".

    As in Go, a text has units and no blanks. Raises ValueError.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        # The limits come before float, which raises OverflowError for an integer of 310 digits.
        return float(max(min(value, LONGEST_S), -LONGEST_S))
    if isinstance(value, str) and (value == "0" or value[-1:].isalpha()) and " " not in value:
        with contextlib.suppress(UsageError):
            return parse_duration(value)
    raise ValueError('a duration is a number of seconds or a text such as "5m"')


class Options(SamplingParameters):
    """What may stand in `options`. A Literal is the one value that changes nothing.

    `num_predict` -1 (without a limit), -2 (until the context is full) and 0 mean the same here:
    until the context is full.
    """

    seed: int | None = Field(default=None, ge=-1, le=0xFFFFFFFF)
    num_predict: int | None = Field(default=None, ge=-2, le=MAX_TOKENS)
    num_ctx: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    stop: Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS)] | StopString | None = None
    num_keep: Literal[0] | None = None
    typical_p: Literal[1] | None = None
    tfs_z: Literal[1] | None = None
    mirostat: Literal[0] | None = None


class ToolFunction(WireModel):
    """A function that the model may call; `parameters` is a JSON schema of an object."""

    name: str = Field(min_length=1)
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None


class Tool(WireModel):
    """A tool that the model may call."""

    type: Literal["function"] = "function"
    function: ToolFunction


class CallFunction(WireModel):
    """The function of a call, with its arguments as an object.

    `description` (null) and `index` may come back with a call; they are ignored.
    """

    name: str
    arguments: dict[str, JsonValue] = Field(default={})
    description: None = None
    index: int | None = None


class Call(WireModel):
    """A call that the model made earlier."""

    function: CallFunction
    id: str | None = None
    type: Literal["function"] | None = None


class ChatMessage(WireModel):
    """A turn of the conversation; images are base64."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = None
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _CommonBody(RequestBody):
    """The fields that both bodies have. A Literal with one value is what g4 does anyway."""

    model: str = Field(min_length=1)
    stream: bool = True
    format: Literal["", "json"] | dict[str, JsonValue] | None = None
    options: Options | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    keep_alive: Annotated[float, BeforeValidator(read_duration)] | None = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=MAX_TOP_LOGPROBS)
    truncate: Literal[False] | None = None
    shift: Literal[False] | None = None


class ChatRequest(_CommonBody):
    """The body of POST /api/chat. Without messages it loads the model, or unloads it."""

    messages: list[ChatMessage] = Field(default=[], max_length=MAX_MESSAGES)
    tools: list[Tool] | None = Field(default=None, max_length=MAX_TOOLS)


class GenerateRequest(_CommonBody):
    """The body of POST /api/generate. Without a prompt it loads the model, or unloads it."""

    prompt: str = ""
    system: str | None = None
    images: list[str] | None = None
    raw: bool = False
    suffix: Literal[""] | None = None
    template: Literal[""] | None = None
    context: Annotated[list[int], Field(max_length=0)] | None = None


def read_chat(body: ChatRequest, save_media: SaveMedia) -> TurnRequest:
    """Return what `body` asks for. Raises BadField."""
    messages = tuple(_read_messages(body.messages, save_media))
    return TurnRequest(
        messages=messages,
        tools=declare_tools(
            (f"tools.{index}.function", tool.function.model_dump(exclude_none=True))
            for index, tool in enumerate(body.tools or ())
        ),
        continue_last=continues_last(messages, f"messages.{len(messages) - 1}.tool_calls"),
        **_common_fields(body),
    )


def read_generate(body: GenerateRequest, save_media: SaveMedia) -> TurnRequest:
    """Return what `body` asks for. Raises BadField."""
    if body.raw:
        # The other fields, such as the options, hold for a raw prompt too.
        for name, reason in _REFUSED_IN_RAW.items():
            if getattr(body, name):
                raise BadField(name, reason)
        return TurnRequest(prompt=body.prompt, **_common_fields(body))
    media = _save_images(body.images, "images", save_media)
    system = (Message("system", body.system),) if body.system else ()
    return TurnRequest(
        messages=(*system, Message("user", body.prompt, media=media)), **_common_fields(body)
    )


def require_load_only(body: ChatRequest | GenerateRequest) -> None:
    """Raise BadField if a request without a prompt has a field that only an answer could obey."""
    given = body.model_dump(exclude_defaults=True, exclude=set(_LOAD_FIELDS))
    options = (
        body.options.model_dump(exclude_none=True, exclude={"num_ctx"}) if body.options else {}
    )
    names = [*(name for name, value in given.items() if value), *(f"options.{o}" for o in options)]
    if names:
        raise BadField(names[0], "there is no prompt, so the model is only loaded or unloaded")


def require_context(body: ChatRequest | GenerateRequest, n_ctx: int) -> None:
    """Raise BadField if `body` asks for more than the `n_ctx` tokens that a request has here."""
    if body.options and (body.options.num_ctx or 0) > n_ctx:
        given = f"a request has {n_ctx:,} tokens of context here (g4 serve --ctx)"
        raise BadField("options.num_ctx", given)


def _common_fields(body: _CommonBody) -> dict[str, Any]:
    """Return the fields of TurnRequest that both bodies give. Raises BadField."""
    if body.top_logprobs and not body.logprobs:
        raise BadField("top_logprobs", "it needs logprobs=true")
    options = body.options or Options()
    sampling = read_sampling(options)
    if options.seed == -1:
        del sampling["seed"]  # another seed each time, which is the default
    stop = [options.stop] if isinstance(options.stop, str) else options.stop or []
    return {
        "model": body.model,
        "thinking": _read_thinking(body.think),
        "sampling": sampling,
        "stop": tuple(stop),
        "max_tokens": max(options.num_predict or 0, 0),
        "json_schema": _read_format(body.format),
        "form_field": "format",
        "n_probs": body.top_logprobs if body.logprobs else None,
        "keep_alive_s": body.keep_alive,
    }


def _read_format(value: str | dict[str, Any] | None) -> str:
    if isinstance(value, dict):
        return encode_schema(value, "format")
    return '{"type": "object"}' if value == "json" else ""


def _read_thinking(think: bool | str | None) -> Thinking:
    levels: Mapping[bool | str | None, Thinking] = {
        True: "on",
        "low": "low",
        "medium": "medium",
        "high": "high",
        "max": "on",  # without a limit of its own
    }
    # Without `think` there is no thought, as in g4's other APIs; Ollama itself lets a model think.
    return levels.get(think, "off")


def _read_messages(messages: Sequence[ChatMessage], save_media: SaveMedia) -> Iterator[Message]:
    names: dict[str, str] = {}  # of functions, by the id of their call
    unanswered: list[str] = []  # names of the functions of the last calls without a result
    for index, message in enumerate(messages):
        calls = message.tool_calls or ()
        if calls and message.role != "assistant":
            raise BadField(f"messages.{index}.tool_calls", f"role {message.role!r} calls no tools")
        if calls:
            unanswered = [call.function.name for call in calls]
            names |= {call.id: call.function.name for call in calls if call.id}
        name = ""
        if message.role == "tool":
            # Results without a name or an id belong to the calls in their order.
            first = unanswered.pop(0) if unanswered else ""
            name = message.tool_name or names.get(message.tool_call_id or "", first)
        media = _save_images(message.images, f"messages.{index}.images", save_media)
        if media and message.role != "user":
            raise BadField(f"messages.{index}.images", "images belong to messages of the user")
        yield Message(
            message.role,
            message.content or "",
            message.thinking or "",
            tuple(ToolCall(call.function.name, call.function.arguments) for call in calls),
            name,
            media,
        )


def _save_images(
    images: Sequence[str] | None, field: str, save_media: SaveMedia
) -> tuple[Media, ...]:
    return tuple(
        save_media("image", data, f"{field}.{index}") for index, data in enumerate(images or ())
    )
