"""A chat completion's body as a TurnRequest: messages, tools, sampling parameters, grammar.

openai_completions.py, responses_request.py and llama_server.py use parts of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from g4cli.core.errors import BadField
from g4cli.operations.serving.media_files import MediaFiles
from g4cli.operations.serving.requests import (
    Thinking,
    ToolChoice,
    TurnRequest,
    continues_last,
)
from g4cli.prompt.messages import Media, Message, ToolCall
from g4cli.runtime.engine.options import TokenBias
from g4cli.server.declarations import choose_tools, declare_tools, encode_schema, read_sampling
from g4cli.server.limits import MAX_MEDIA
from g4cli.server.media_data import store_base64, store_data_uri
from g4cli.server.openai_request import (
    AssistantMessage,
    AudioPart,
    ChatBody,
    ImagePart,
    JsonObjectFormat,
    JsonSchemaFormat,
    NamedToolChoice,
    SamplingFields,
    TextPart,
    Tool,
    ToolMessage,
    UserPart,
    WireMessage,
)

# OpenAI's effort -> g4's; MAX_THOUGHT_TOKENS in operations/chat/session has what each means.
EFFORTS: Final[Mapping[str, Thinking]] = {
    "none": "off",
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
}
_SEED_MASK: Final = 0xFFFFFFFF  # llama.cpp's seeds have 32 bits
_MAX_TOKEN_DIGITS: Final = 9  # any number of so many fits into the engine's 32 bits


def make_turn_request(body: ChatBody, files: MediaFiles) -> TurnRequest:
    """Return the request for the first choice of `body`. Raises BadField with the field's name."""
    limits = {body.max_completion_tokens, body.max_tokens} - {None}
    if len(limits) > 1:
        raise BadField("max_tokens", "max_completion_tokens says otherwise")
    messages = convert_messages(body.messages, files)
    tools = convert_tools(body.tools or ())
    thinking = _choose_thinking(body)
    schema, grammar = _choose_grammar(body)
    return TurnRequest(
        model=body.model,
        messages=messages,
        tools=tools,
        tool_choice=_choose_tools(body, tools),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        thinking=thinking,
        continue_last=continues_last(messages, f"messages.{len(body.messages) - 1}.tool_calls"),
        sampling=make_sampling(body),
        stop=make_stop(body),
        max_tokens=body.max_completion_tokens or body.max_tokens or 0,
        json_schema=schema,
        grammar=grammar,
        form_field="grammar" if grammar else "response_format",
        n_probs=_choose_n_probs(body),
        stop_on_loop=body.g4 is None or body.g4.stop_on_loop is not False,
    )


def make_sampling(body: SamplingFields) -> dict[str, Any]:
    """Return the sampling parameters of a body by the names of the engine. Raises BadField."""
    sampling = read_sampling(body)
    if body.seed is not None:
        sampling["seed"] = body.seed & _SEED_MASK
    if body.logit_bias:
        sampling["logit_bias"] = tuple(
            TokenBias(_read_token(name), bias) for name, bias in body.logit_bias.items()
        )
    return sampling


def make_stop(body: SamplingFields) -> tuple[str, ...]:
    """Return the stop strings of a body."""
    stop = body.stop or ()
    return (stop,) if isinstance(stop, str) else tuple(stop)


def convert_messages(messages: Sequence[WireMessage], files: MediaFiles) -> tuple[Message, ...]:
    """Return the messages of a conversation; images and sounds become files. Raises BadField.

    System messages at the start become one: the chat template has room for one there.
    """
    converted: list[Message] = []
    names: dict[str, str] = {}  # of functions, by the id of their call
    unanswered: list[str] = []  # names of the functions of the last calls without a result
    n_media = 0
    for index, message in enumerate(messages):
        field = f"messages.{index}"
        if isinstance(message, AssistantMessage):
            calls = []
            for number, call in enumerate(message.tool_calls or ()):
                place = f"{field}.tool_calls.{number}.function.arguments"
                arguments = parse_arguments(call.function.arguments, place)
                calls.append(ToolCall(call.function.name, arguments))
                names[call.id] = call.function.name
            unanswered = [call.name for call in calls]
            text = _join_text(message.content or "")
            thought = message.reasoning_content or ""
            converted.append(Message("assistant", text, thought, tuple(calls)))
        elif isinstance(message, ToolMessage):
            # Results without an id belong to the calls in their order.
            first = unanswered.pop(0) if unanswered else None
            given = names.get(message.tool_call_id) if message.tool_call_id else first
            name = message.name or given
            if name is None:
                what = f"no earlier call has the id {message.tool_call_id!r:.80}"
                raise BadField(f"{field}.tool_call_id", what)
            converted.append(Message("tool", _join_text(message.content), name=name))
        elif message.role == "user":
            text, media = _read_parts(message.content, files, field)
            n_media += len(media)
            converted.append(Message("user", text, media=tuple(media)))
        else:
            converted.append(Message("system", _join_text(message.content)))
    if n_media > MAX_MEDIA:
        raise BadField("messages", f"{n_media} images and sounds; at most {MAX_MEDIA}")
    return join_leading_systems(converted)


def convert_tools(tools: Sequence[Tool]) -> tuple[Mapping[str, Any], ...]:
    """Return tools as `g4cli.prompt.tools` takes them. Raises BadField."""
    return declare_tools(
        (f"tools.{index}.function", tool.function.model_dump(exclude_none=True))
        for index, tool in enumerate(tools)
    )


def parse_arguments(text: str, field: str) -> Mapping[str, Any]:
    """Return the arguments of a call, which are a JSON object as text. Raises BadField."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise BadField(field, "not a JSON object")
    return value


def join_leading_systems(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return `messages` with the system messages at their start as one."""
    n_first = next((i for i, m in enumerate(messages) if m.role != "system"), len(messages))
    if n_first < 2:
        return tuple(messages)
    text = "\n\n".join(message.content for message in messages[:n_first])
    return (Message("system", text), *messages[n_first:])


def _join_text(content: str | Sequence[TextPart]) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _read_parts(
    content: str | Sequence[UserPart], files: MediaFiles, field: str
) -> tuple[str, list[Media]]:
    if isinstance(content, str):
        return content, []
    texts: list[str] = []
    media: list[Media] = []
    for index, part in enumerate(content):
        place = f"{field}.content.{index}"
        if isinstance(part, ImagePart):
            if part.image_url.detail not in (None, "auto"):
                what = "all images have the same number of tokens (g4 serve --image-tokens)"
                raise BadField(f"{place}.image_url.detail", what)
            media.append(store_data_uri(files, part.image_url.url, f"{place}.image_url.url"))
        elif isinstance(part, AudioPart):
            sound = part.input_audio
            media.append(store_base64(files, "audio", sound.data, f"{place}.input_audio.data"))
        else:
            texts.append(part.text)
    return "\n".join(texts), media


def _choose_thinking(body: ChatBody) -> Thinking:
    enabled = body.chat_template_kwargs.enable_thinking if body.chat_template_kwargs else None
    if body.reasoning_effort is None:
        return "on" if enabled else "off"
    thinking = EFFORTS[body.reasoning_effort]
    if enabled is not None and enabled != (thinking != "off"):
        raise BadField("chat_template_kwargs.enable_thinking", "reasoning_effort says otherwise")
    return thinking


def _choose_tools(body: ChatBody, tools: Sequence[Mapping[str, Any]]) -> ToolChoice:
    choice = body.tool_choice
    if isinstance(choice, NamedToolChoice):
        return choose_tools("required", choice.function.name, tools)
    return choose_tools(choice or "auto", "", tools)


def _choose_grammar(body: ChatBody) -> tuple[str, str]:
    """Return the JSON schema and the grammar of the answer, "" where there is none."""
    form = body.response_format
    value: Any = None
    if isinstance(form, JsonSchemaFormat):
        value = form.json_schema.schema_
    elif isinstance(form, JsonObjectFormat):
        value = form.schema_ or {"type": "object"}
    schema = "" if value is None else encode_schema(value, "response_format")
    if schema and body.grammar:
        raise BadField("grammar", "response_format says what the answer is already")
    return schema, body.grammar or ""


def _choose_n_probs(body: ChatBody) -> int | None:
    if body.logprobs:
        return body.top_logprobs or 0
    if body.top_logprobs is not None:
        raise BadField("top_logprobs", "it needs logprobs=true")
    return None


def _read_token(name: str) -> int:
    if not name.isdecimal() or len(name) > _MAX_TOKEN_DIGITS:
        raise BadField(f"logit_bias.{name[:40]}", "not a token id")
    return int(name)
