"""The body of POST /v1/chat/completions, field by field.

The route (openai_chat.py) validates a body with ChatBody; openai_messages.py makes a TurnRequest
of it. Other wire formats have files like this one.

Source: openai-python, src/openai/types/chat/completion_create_params.py; fields that OpenAI lacks
are llama-server's (llama.cpp, tools/server/README.md). A field is obeyed or refused with its name.
These are accepted and change nothing, because a local model has nothing that they could change:

    user, safety_identifier, metadata     who asks, and notes about it: nobody here reads them
    store=false                           nothing is ever stored
    service_tier=auto|default             there is one tier
    prompt_cache_key, prompt_cache_retention, cache_prompt=true
                                          prompts are always reused by their longest common prefix
    verbosity=medium, modalities=[text]   the only ones
    stream_options.include_obfuscation=false   a stream is never padded
    strict, of response_format            answers always match a schema to the letter
    index, of earlier calls               clients send back what a stream gave them, and also the
                                          fields of earlier answers that are null or empty

Ranges of numbers are OpenAI's, or wider where llama-server takes more; beyond them a number is
most probably a mistake.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, JsonValue

from g4cli.server.declarations import SamplingParameters
from g4cli.server.limits import (
    MAX_CHOICES,
    MAX_GRAMMAR_CHARACTERS,
    MAX_LOGIT_BIAS,
    MAX_MESSAGES,
    MAX_STOP_STRINGS,
    MAX_TOKENS,
    MAX_TOOLS,
    MAX_TOP_LOGPROBS,
)
from g4cli.server.wire_model import RequestBody, StopString, WireModel

# How long the model thinks first: EFFORTS in openai_messages.py.
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
# OpenAI takes 64 letters, digits, _ and -; names from MCP servers have more.
FunctionName: TypeAlias = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.:/-]{1,128}$")]


class TextPart(WireModel):
    """A piece of text."""

    type: Literal["text"]
    text: str


class ImageUrl(WireModel):
    """An image as a data URI; the server opens no other address.

    `detail`: openai_messages.py refuses what is not "auto", and says what to do instead.
    """

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(WireModel):
    """An image in a user's message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(WireModel):
    """A sound in base64."""

    data: str
    format: Literal["wav", "mp3", "flac"]


class AudioPart(WireModel):
    """A sound in a user's message."""

    type: Literal["input_audio"]
    input_audio: InputAudio


UserPart: TypeAlias = Annotated[TextPart | ImagePart | AudioPart, Field(discriminator="type")]


class SystemMessage(WireModel):
    """Instructions; several at the start are joined."""

    role: Literal["system", "developer"]
    content: str | list[TextPart]


class UserMessage(WireModel):
    """What the user says."""

    role: Literal["user"]
    content: str | list[UserPart]


class FunctionCall(WireModel):
    """The function that is called; `arguments` is a JSON object as text."""

    name: str
    arguments: str


class AssistantCall(WireModel):
    """A call that the model made earlier."""

    id: str = ""
    type: Literal["function"] = "function"
    function: FunctionCall
    index: int | None = None


class AssistantMessage(WireModel):
    """An earlier answer. As the last message of a request it is continued.

    As in Gemma 4's chat template, thoughts (`reasoning_content`) are shown to the model again
    only while tools are called: those of calls after the last message of the user.
    """

    role: Literal["assistant"]
    content: str | list[TextPart] | None = None
    reasoning_content: str | None = None
    tool_calls: list[AssistantCall] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None


class ToolMessage(WireModel):
    """What a tool returned; `name` is that of the call unless it is given."""

    role: Literal["tool"]
    content: str | list[TextPart]
    tool_call_id: str = ""
    name: str | None = None


WireMessage: TypeAlias = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class FunctionDeclaration(WireModel):
    """A function that the model may call; `parameters` is a JSON schema of an object.

    Calls always follow it. With `strict` a schema is refused that no grammar can enforce wholly.
    """

    name: FunctionName
    description: str | None = None
    parameters: dict[str, JsonValue] | None = None
    strict: bool | None = None


class Tool(WireModel):
    """A tool that the model may call."""

    type: Literal["function"]
    function: FunctionDeclaration


class NamedFunction(WireModel):
    """The name of a function."""

    name: str


class NamedToolChoice(WireModel):
    """The only tool that the model may call, and must."""

    type: Literal["function"]
    function: NamedFunction


class TextFormat(WireModel):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(WireModel):
    """Any JSON object; llama-server's `schema` restricts it."""

    type: Literal["json_object"]
    schema_: Annotated[dict[str, JsonValue] | None, Field(alias="schema")] = None


class NamedSchema(WireModel):
    """A JSON schema with a name; the name and the description are not shown to the model."""

    name: str = ""
    description: str | None = None
    schema_: Annotated[dict[str, JsonValue], Field(alias="schema")]
    strict: bool | None = None


class JsonSchemaFormat(WireModel):
    """JSON that matches a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat: TypeAlias = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class StreamOptions(WireModel):
    """What a stream has besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class TemplateOptions(WireModel):
    """Variables of the chat template."""

    enable_thinking: bool | None = None


class LoopOptions(WireModel):
    """Extension of g4: whether an answer that repeats itself is stopped."""

    stop_on_loop: bool | None = None


class SamplingFields(RequestBody, SamplingParameters):
    """Sampling parameters that OpenAI's and llama-server's requests have in common.

    `logit_bias`: what is added to the logits of tokens, by their ids as text.
    """

    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 64)] | None = None
    ignore_eos: bool | None = None
    logit_bias: (
        Annotated[
            dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MAX_LOGIT_BIAS)
        ]
        | None
    ) = None
    stop: StopString | Annotated[list[StopString], Field(max_length=MAX_STOP_STRINGS)] | None = None


class ChatBody(SamplingFields):
    """The body of POST /v1/chat/completions."""

    model: str = ""
    messages: Annotated[list[WireMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_TOP_LOGPROBS)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["auto", "none", "required"] | NamedToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    grammar: Annotated[str, Field(max_length=MAX_GRAMMAR_CHARACTERS)] | None = None
    reasoning_effort: Effort | None = None
    chat_template_kwargs: TemplateOptions | None = None
    g4: LoopOptions | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    cache_prompt: Literal[True] | None = None
    verbosity: Literal["medium"] | None = None
    modalities: list[Literal["text"]] | None = None
