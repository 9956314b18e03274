"""The body of POST /v1/responses, field by field, and the TurnRequest that it becomes.

Source: openai-python, src/openai/types/responses/response_create_params.py. Nothing is stored here:
`store`=true, `previous_response_id`, `conversation` and `prompt` are refused, and so are tools that
OpenAI's own servers run. Accepted without a meaning here:

    user, safety_identifier, metadata, client_metadata (Codex's notes about itself)
    prompt_cache_key, prompt_cache_retention, service_tier
    include=[reasoning.encrypted_content]   thoughts come as text, to be sent back by the client
    reasoning.summary=auto                  thoughts come whole, not summarized
    truncation=disabled, background=false, text.verbosity=medium
    fields of the type None                 null in the items of an answer, which clients send back
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, JsonValue, Tag

from g4cli.core.errors import BadField
from g4cli.operations.serving.media_files import MediaFiles
from g4cli.operations.serving.requests import (
    Thinking,
    ToolChoice,
    TurnRequest,
    continues_last,
)
from g4cli.prompt.messages import Media, Message, ToolCall
from g4cli.server.declarations import choose_tools, declare_tools, encode_schema, read_sampling
from g4cli.server.limits import MAX_MEDIA, MAX_MESSAGES, MAX_TOKENS, MAX_TOOLS
from g4cli.server.media_data import store_data_uri
from g4cli.server.openai_messages import EFFORTS, join_leading_systems, parse_arguments
from g4cli.server.openai_request import Effort, FunctionName, TextFormat
from g4cli.server.wire_model import RequestBody, TextOrList, WireModel, text_or_list

Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class InputText(WireModel):
    """A piece of text; of an earlier answer it has another `type`."""

    type: Literal["input_text", "output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputImage(WireModel):
    """An image as a data URI; the server opens no other address."""

    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto"] | None = None
    file_id: None = None


Content: TypeAlias = TextOrList[Annotated[InputText | InputImage, Field(discriminator="type")]]


class MessageItem(WireModel):
    """A message of the conversation."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: str | None = None
    status: Status | None = None
    phase: str | None = None  # of an earlier answer: "commentary" or "final_answer"


class CallItem(WireModel):
    """A call that the model made earlier; `arguments` is a JSON object as text."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None
    caller: None = None
    namespace: None = None


class ResultItem(WireModel):
    """What a tool returned."""

    type: Literal["function_call_output"]
    call_id: str
    output: Content
    id: str | None = None
    status: Status | None = None


class ThoughtPart(WireModel):
    """A piece of an earlier thought."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(WireModel):
    """An earlier thought."""

    type: Literal["reasoning"]
    summary: list[ThoughtPart] = Field(default=[])
    content: list[ThoughtPart] | None = None
    encrypted_content: None = None
    id: str | None = None
    status: Status | None = None


def _item_type(value: object) -> str:
    """Return the tag of an item; a message may lack its `type`."""
    kind = value.get("type", "message") if isinstance(value, dict) else "message"
    return kind if isinstance(kind, str) else "message"


Item: TypeAlias = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[ResultItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_item_type),
]


class FunctionTool(WireModel):
    """A function that the client runs. `strict` refuses a schema that no grammar can enforce."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: bool | None = None


class NamedTool(WireModel):
    """The only tool that the model may call, and must."""

    type: Literal["function"]
    name: str


class AnyObject(WireModel):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(WireModel):
    """JSON that matches a schema; the name and the description are not shown to the model."""

    type: Literal["json_schema"]
    name: str
    schema_: Annotated[dict[str, JsonValue], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None


class TextOptions(WireModel):
    """What the text of the answer must be."""

    format: Annotated[TextFormat | AnyObject | NamedSchema, Field(discriminator="type")] | None = (
        None
    )
    verbosity: Literal["medium"] | None = None


class ReasoningOptions(WireModel):
    """How much to think."""

    effort: Effort | None = None
    summary: Literal["auto"] | None = None


class StreamOptions(WireModel):
    """What a stream has besides the answer."""

    include_obfuscation: Literal[False] | None = None


class ResponsesBody(RequestBody):
    """The body of POST /v1/responses."""

    model: str = ""
    input: Annotated[
        Annotated[str, Tag("text")]
        | Annotated[list[Item], Field(min_length=1, max_length=MAX_MESSAGES), Tag("list")],
        Discriminator(text_or_list),
    ]
    instructions: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning: ReasoningOptions | None = None
    text: TextOptions | None = None
    store: Literal[False] | None = None
    background: Literal[False] | None = None
    truncation: Literal["disabled"] | None = None
    include: list[Literal["reasoning.encrypted_content"]] | None = None
    top_logprobs: Literal[0] | None = None
    metadata: dict[str, str] | None = None
    client_metadata: dict[str, JsonValue] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    service_tier: Literal["auto", "default"] | None = None


def make_turn_request(body: ResponsesBody, files: MediaFiles) -> TurnRequest:
    """Return what `body` asks for. Raises BadField with the field's name."""
    messages = _read_items(body, files)
    tools = declare_tools(
        (f"tools.{index}", tool.model_dump(exclude_none=True, exclude={"type"}))
        for index, tool in enumerate(body.tools or ())
    )
    return TurnRequest(
        model=body.model,
        messages=messages,
        tools=tools,
        tool_choice=_read_choice(body, tools),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        thinking=_read_thinking(body),
        continue_last=continues_last(messages, "input"),
        sampling=read_sampling(body),
        max_tokens=body.max_output_tokens or 0,
        json_schema=_read_schema(body),
        form_field="text.format",
    )


def _read_thinking(body: ResponsesBody) -> Thinking:
    effort = body.reasoning.effort if body.reasoning else None
    return EFFORTS[effort] if effort else "off"


def _read_choice(body: ResponsesBody, tools: Sequence[Any]) -> ToolChoice:
    if isinstance(body.tool_choice, NamedTool):
        return choose_tools("required", body.tool_choice.name, tools)
    return choose_tools(body.tool_choice or "auto", "", tools)


def _read_schema(body: ResponsesBody) -> str:
    form = body.text.format if body.text else None
    if isinstance(form, NamedSchema):
        return encode_schema(form.schema_, "text.format.schema")
    return '{"type": "object"}' if isinstance(form, AnyObject) else ""


def _read_items(body: ResponsesBody, files: MediaFiles) -> tuple[Message, ...]:
    """Return the messages of the instructions and the items.

    A thought, a text and calls that follow each other are items of their own in this API, and one
    message of the assistant here. `thought` is one that waits for the message or call after it.
    """
    messages: list[Message] = []
    if isinstance(body.input, str):
        messages.append(Message("user", body.input))
    names: dict[str, str] = {}  # of functions, by the id of their call
    thought = ""
    # Images in the results of tools: Gemma's format has none there, so that they follow the results
    # as a message of the user.
    images: tuple[Media, ...] = ()
    for index, item in enumerate(body.input if isinstance(body.input, list) else ()):
        field = f"input.{index}"
        if images and not isinstance(item, ResultItem):
            messages.append(Message("user", "", media=images))
            images = ()
        if isinstance(item, ReasoningItem):
            thought += "".join(part.text for part in item.content or item.summary)
        elif isinstance(item, CallItem):
            call = ToolCall(item.name, parse_arguments(item.arguments, f"{field}.arguments"))
            names[item.call_id] = item.name
            if messages and messages[-1].role == "assistant" and not thought:
                last = messages.pop()
                messages.append(replace(last, tool_calls=(*last.tool_calls, call)))
            else:
                messages.append(Message("assistant", "", thought, (call,)))
            thought = ""
        elif isinstance(item, ResultItem):
            if item.call_id not in names:
                what = f"no earlier call has the id {item.call_id!r:.80}"
                raise BadField(f"{field}.call_id", what)
            text, media = _read_content(item.output, files, f"{field}.output")
            messages.append(Message("tool", text, name=names[item.call_id]))
            images += media
        else:
            text, media = _read_content(item.content, files, f"{field}.content")
            if media and item.role != "user":
                raise BadField(f"{field}.content", "images belong to messages of the user")
            role = "system" if item.role == "developer" else item.role
            if role == "assistant" and messages and messages[-1].tool_calls and not thought:
                # Text after calls joins their message: the results of the calls have to follow it.
                last = messages.pop()
                messages.append(replace(last, content=last.content + text))
            else:
                messages.append(
                    Message(role, text, thought if role == "assistant" else "", media=media)
                )
            thought = ""
    if images:
        messages.append(Message("user", "", media=images))
    if sum(len(message.media) for message in messages) > MAX_MEDIA:
        raise BadField("input", f"a request has at most {MAX_MEDIA} images")
    if not messages:
        raise BadField("input", "it holds no message")
    if body.instructions:
        messages.insert(0, Message("system", body.instructions))
    return join_leading_systems(messages)


def _read_content(
    content: str | Sequence[InputText | InputImage], files: MediaFiles, field: str
) -> tuple[str, tuple[Media, ...]]:
    if isinstance(content, str):
        return content, ()
    texts, media = list[str](), list[Media]()
    for index, part in enumerate(content):
        if isinstance(part, InputImage):
            media.append(store_data_uri(files, part.image_url, f"{field}.{index}.image_url"))
        else:
            texts.append(part.text)
    return "\n".join(texts), tuple(media)
