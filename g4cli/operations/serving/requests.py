"""What a server asks of a model: every HTTP format is translated to a TurnRequest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from g4cli.core.errors import BadField
from g4cli.prompt.messages import Message

Thinking: TypeAlias = Literal["off", "on", "low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model may call tools (auto), must not (none) or must (required).

    `name`: with "required", the only tool that it may call.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRequest:
    """One answer that is asked for.

    `model`: a name that the server offers; "" is its default. What to answer is either `messages`,
    or, for completions without a chat template, `prompt`: text, or token ids. `tools` are in
    OpenAI's form.

    `sampling` holds values by the names of `runtime.engine.options.Sampling`; what it lacks comes
    from the options of the server, then from the model file. `choice`: which of several answers to
    the same prompt it is; each has the seed, if there is one, plus this number. `max_tokens` 0:
    until the context is full. `json_schema` (JSON) or `grammar` (GBNF) restrict the answer, not the
    thought before it; `form_field` is the field that the client sent it in. `n_probs`: tokens come
    with their log-probability and this many alternatives; None: without. `max_thought_tokens`: the
    most tokens of its thoughts; 0: as many as `thinking` says. `continue_last`: the last message is
    the assistant's and is to be continued, after its thought. `keep_alive_s`: how long the model
    stays loaded after the answer, below 0 for ever; None: as the server's options say.
    """

    model: str = ""
    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    thinking: Thinking = "off"
    max_thought_tokens: int = 0
    continue_last: bool = False
    sampling: Mapping[str, Any] = field(default_factory=dict)
    choice: int = 0
    stop: tuple[str, ...] = ()
    max_tokens: int = 0
    json_schema: str = ""
    grammar: str = ""
    form_field: str = "response_format"
    n_probs: int | None = None
    stop_on_loop: bool = True
    keep_alive_s: float | None = None


def continues_last(messages: Sequence[Message], field: str) -> bool:
    """Return whether the last message is the assistant's, to be continued.

    Raises BadField, which names `field`, if it calls tools: what they return has to follow.
    """
    if not messages or messages[-1].role != "assistant":
        return False
    if messages[-1].tool_calls:
        raise BadField(field, "results of the tools that the last message calls are missing")
    return True
