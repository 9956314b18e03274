"""The body of a request to Anthropic's Messages API, and the TurnRequest that it asks for.

Source: https://docs.anthropic.com/en/api/messages and the types of the `anthropic` package 2.14
(of `context_management`: BetaClearThinking20251015EditParam and its kin).

Accepted without a meaning here: `metadata`, `service_tier`, `cache_control` (prefixes
are always reused), `eager_input_streaming` (the input of a tool comes in one piece), `strict` of a
tool when it is false, and of `context_management` the clearing of thoughts: Gemma's chat template
decides which thoughts are shown to the model: those of calls after the user's last message. Fields
of the type None are null in the blocks of an answer, which clients send back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import Field, JsonValue

from g4cli.core.errors import BadField
from g4cli.operations.serving.requests import (
    Thinking,
    ToolChoice,
    TurnRequest,
    continues_last,
)
from g4cli.prompt.messages import Media, Message, ToolCall
from g4cli.server.declarations import choose_tools, declare_tools, encode_schema, read_sampling
from g4cli.server.limits import MAX_MESSAGES, MAX_STOP_STRINGS, MAX_TOKENS, MAX_TOOLS
from g4cli.server.media_data import SaveMedia
from g4cli.server.wire_model import RequestBody, StopString, TextOrList, WireModel

# Claude Code begins its system prompt with a line that has another checksum in each request: with
# it, no prefix of the prompt could ever be reused (llama.cpp, tools/server/server-chat.cpp,
# normalize_anthropic_billing_header).
_BILLING_CHECKSUM: Final = re.compile(r"\A(x-anthropic-billing-header:[^\n]*?\bcch=)[0-9a-f]+")


class CacheControl(WireModel):
    """A place up to which Anthropic would cache; here prefixes are always reused."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(WireModel):
    """A piece of text."""

    type: Literal["text"]
    text: str
    cache_control: CacheControl | None = None
    citations: None = None


class ImageSource(WireModel):
    """The data of an image in base64; no address is opened."""

    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class ImageBlock(WireModel):
    """An image."""

    type: Literal["image"]
    source: ImageSource
    cache_control: CacheControl | None = None


class ThinkingBlock(WireModel):
    """An earlier thought. Its `signature` proves to Anthropic that it is one; g4 ignores it."""

    type: Literal["thinking"]
    thinking: str
    signature: str = ""


class DirectCaller(WireModel):
    """The model itself made the call, not a program that it wrote."""

    type: Literal["direct"]


class ToolUseBlock(WireModel):
    """A call that the model made earlier."""

    type: Literal["tool_use"]
    id: str
    name: str
    caller: DirectCaller | None = None
    toolset_name: None = None
    input: dict[str, JsonValue]
    cache_control: CacheControl | None = None


ResultBlock: TypeAlias = Annotated[TextBlock | ImageBlock, Field(discriminator="type")]


class ToolResultBlock(WireModel):
    """What a call returned."""

    type: Literal["tool_result"]
    tool_use_id: str
    content: TextOrList[ResultBlock] = ""
    is_error: bool = False
    cache_control: CacheControl | None = None


Block: TypeAlias = Annotated[
    TextBlock | ImageBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock,
    Field(discriminator="type"),
]


class InputMessage(WireModel):
    """A turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: TextOrList[Block]


class Tool(WireModel):
    """A tool that the client runs. Those that Anthropic's servers run have another `type`."""

    name: str = Field(min_length=1)
    input_schema: dict[str, JsonValue]
    description: str = ""
    type: Literal["custom"] | None = None
    strict: Literal[False] | None = None
    eager_input_streaming: bool | None = None
    cache_control: CacheControl | None = None


class AnyChoice(WireModel):
    """Whether tools may (auto), must (any) or must not (none) be called."""

    type: Literal["auto", "any", "none"]
    disable_parallel_tool_use: bool = False


class NamedChoice(WireModel):
    """The only tool that the model may call, and must."""

    type: Literal["tool"]
    name: str
    disable_parallel_tool_use: bool = False


class ThinkingOff(WireModel):
    """Answer at once."""

    type: Literal["disabled"]


class ThinkingOn(WireModel):
    """Think first, in at most so many tokens."""

    type: Literal["enabled"]
    budget_tokens: int = Field(ge=1, le=MAX_TOKENS)
    display: Literal["summarized", "omitted"] | None = None


class ThinkingAdaptive(WireModel):
    """Think first, as much as `output_config.effort` says."""

    type: Literal["adaptive"]
    display: Literal["summarized", "omitted"] | None = None


class JsonFormat(WireModel):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, JsonValue] = Field(alias="schema")


class OutputConfig(WireModel):
    """How much to think, and what form the answer has."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None


class Metadata(WireModel):
    """Notes about the request; nobody reads them here."""

    user_id: str | None = None


class ThinkingTurns(WireModel):
    """How many of the last answers keep their thoughts."""

    type: Literal["thinking_turns"]
    value: int = Field(ge=1)


class ClearThinking(WireModel):
    """Which thoughts of earlier answers are left out."""

    type: Literal["clear_thinking_20251015"]
    keep: Literal["all"] | ThinkingTurns | None = None


class ContextManagement(WireModel):
    """What is left out of a long conversation. Anthropic's clear_tool_uses is refused."""

    edits: list[ClearThinking] = Field(default=[], max_length=16)  # a choice: one is enough


class CountRequest(RequestBody):
    """The body of POST /v1/messages/count_tokens, and what POST /v1/messages has of it."""

    model: str
    messages: list[InputMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    system: TextOrList[TextBlock] = ""
    tools: list[Tool] = Field(default=[], max_length=MAX_TOOLS)
    tool_choice: Annotated[AnyChoice | NamedChoice, Field(discriminator="type")] | None = None
    thinking: (
        Annotated[ThinkingOff | ThinkingOn | ThinkingAdaptive, Field(discriminator="type")] | None
    ) = None
    output_config: OutputConfig = OutputConfig()
    context_management: ContextManagement | None = None
    cache_control: CacheControl | None = None


class MessagesRequest(CountRequest):
    """The body of POST /v1/messages."""

    max_tokens: int = Field(ge=1, le=MAX_TOKENS)
    stream: bool = False
    stop_sequences: list[StopString] = Field(default=[], max_length=MAX_STOP_STRINGS)
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1, le=MAX_TOKENS)
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None


def read_request(body: CountRequest, save_media: SaveMedia) -> TurnRequest:
    """Return what `body` asks for. Raises BadField."""
    tools = declare_tools(
        (
            f"tools.{index}",
            {"name": tool.name, "description": tool.description, "parameters": tool.input_schema},
        )
        for index, tool in enumerate(body.tools)
    )
    choice, parallel = _read_choice(body, tools)
    thinking, max_thought_tokens = _read_thinking(body)
    output = body.output_config.format
    messages = tuple(_read_messages(body, save_media))
    request = TurnRequest(
        model=body.model,
        messages=messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        thinking=thinking,
        max_thought_tokens=max_thought_tokens,
        continue_last=continues_last(messages, f"messages.{len(body.messages) - 1}.content"),
        json_schema=encode_schema(output.schema_, "output_config.format") if output else "",
        form_field="output_config.format",
    )
    if not isinstance(body, MessagesRequest):
        return request
    return replace(
        request,
        sampling=read_sampling(body),
        stop=tuple(body.stop_sequences),
        max_tokens=body.max_tokens,
    )


def _read_choice(body: CountRequest, tools: Sequence[Mapping[str, Any]]) -> tuple[ToolChoice, bool]:
    """Return which of `tools` may or must be called, and whether several at once."""
    choice = body.tool_choice
    if choice is None:
        return ToolChoice(), True
    parallel = not choice.disable_parallel_tool_use
    if isinstance(choice, NamedChoice):
        return choose_tools("required", choice.name, tools), parallel
    return choose_tools("required" if choice.type == "any" else choice.type, "", tools), parallel


def _read_thinking(body: CountRequest) -> tuple[Thinking, int]:
    """Return whether to think, and the most tokens of a thought, 0 for as many as the level says.

    Raises BadField for an effort without a thought: it says nothing else here. "high" is what
    Anthropic's API assumes where no effort is given.
    """
    effort = body.output_config.effort
    if isinstance(body.thinking, ThinkingAdaptive):
        known: Mapping[str | None, Thinking] = {"low": "low", "medium": "medium", "high": "high"}
        return known.get(effort, "on"), 0  # "xhigh" and "max": without a limit of their own
    if effort not in (None, "high"):
        what = 'it limits thoughts, so it needs thinking.type="adaptive"'
        raise BadField("output_config.effort", what)
    if isinstance(body.thinking, ThinkingOn):
        return "on", body.thinking.budget_tokens
    return "off", 0


def omits_thoughts(body: CountRequest) -> bool:
    """Return whether `body` asks for blocks of thoughts without their text."""
    thinking = body.thinking
    return not isinstance(thinking, ThinkingOff | None) and thinking.display == "omitted"


def _read_messages(body: CountRequest, save_media: SaveMedia) -> Iterator[Message]:
    """Yield the messages of `body`, its system prompt as the first. Raises BadField."""
    if body.system:
        blocks = [body.system] if isinstance(body.system, str) else [b.text for b in body.system]
        blocks[0] = _BILLING_CHECKSUM.sub(r"\g<1>00000", blocks[0])
        yield Message("system", "\n\n".join(blocks))
    tool_names: dict[str, str] = {}
    for index, message in enumerate(body.messages):
        place = f"messages.{index}.content"
        if isinstance(message.content, str):
            yield Message(message.role, message.content)
        elif message.role == "assistant":
            yield _read_answer(message.content, place, tool_names)
        else:
            yield from _read_question(message, message.content, place, tool_names, save_media)


def _read_answer(blocks: Sequence[Block], place: str, tool_names: dict[str, str]) -> Message:
    """Return an assistant's message, and note the names of the tools by the ids of their calls."""
    texts, thoughts, calls = list[str](), list[str](), list[ToolCall]()
    for index, block in enumerate(blocks):
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ThinkingBlock):
            thoughts.append(block.thinking)
        elif isinstance(block, ToolUseBlock):
            calls.append(ToolCall(block.name, block.input))
            tool_names[block.id] = block.name
        else:
            raise BadField(f"{place}.{index}.type", f"an assistant's message has no {block.type}")
    return Message("assistant", "".join(texts), "".join(thoughts), tuple(calls))


def _read_question(
    message: InputMessage,
    blocks: Sequence[Block],
    place: str,
    tool_names: Mapping[str, str],
    save_media: SaveMedia,
) -> Iterator[Message]:
    """Yield what a message of the user or system (`message`, whose content is `blocks`) holds.

    The results of tools come first. Gemma's format has no images in them: they become part of the
    user's message. `place` is the path of `blocks` in the body, for errors; `tool_names` has the
    names of the tools by the ids of their calls.
    """
    texts, media = list[str](), list[Media]()
    for index, block in enumerate(blocks):
        if isinstance(block, TextBlock):
            texts.append(block.text)
        elif isinstance(block, ImageBlock):
            media.append(save_media("image", block.source.data, f"{place}.{index}.source.data"))
        elif isinstance(block, ToolResultBlock) and message.role == "user":
            name = tool_names.get(block.tool_use_id)
            if name is None:
                raise BadField(
                    f"{place}.{index}.tool_use_id",
                    f"no tool_use block before it has the id {block.tool_use_id!r}",
                )
            text = block.content
            if not isinstance(text, str):
                for inner, part in enumerate(text):
                    if isinstance(part, ImageBlock):
                        field = f"{place}.{index}.content.{inner}.source.data"
                        media.append(save_media("image", part.source.data, field))
                text = "\n".join(part.text for part in text if isinstance(part, TextBlock))
            yield Message("tool", f"Error: {text}" if block.is_error else text, name=name)
        else:
            raise BadField(
                f"{place}.{index}.type", f"a {message.role}'s message has no {block.type}"
            )
    if texts or media:
        yield Message(message.role, "\n\n".join(texts), media=tuple(media))
