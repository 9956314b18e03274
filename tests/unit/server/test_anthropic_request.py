"""Requests in Anthropic's form: what they ask for, and what is refused by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from g4cli.core.errors import BadField
from g4cli.operations.serving.requests import ToolChoice, TurnRequest
from g4cli.prompt.messages import Media, Message, ToolCall
from g4cli.server.anthropic_request import CountRequest, MessagesRequest, read_request

BASE = {"model": "tiny", "max_tokens": 16, "messages": [{"role": "user", "content": "Hi"}]}
TOOL = {"name": "find", "description": "Find it.", "input_schema": {"type": "object"}}


def _save(kind: str, data: str, field: str) -> Media:
    assert kind == "image"
    return Media("image", Path(f"{data}@{field}"))


def _read(**fields: Any) -> TurnRequest:
    return read_request(MessagesRequest.model_validate({**BASE, **fields}), _save)


def _block(**fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": [fields]}


def _image(data: str) -> dict[str, Any]:
    source = {"type": "base64", "media_type": "image/png", "data": data}
    return {"type": "image", "source": source, "cache_control": {"type": "ephemeral"}}


def test_a_plain_question() -> None:
    assert _read() == TurnRequest(
        model="tiny",
        messages=(Message("user", "Hi"),),
        max_tokens=16,
        form_field="output_config.format",
    )


def test_sampling_and_stop_sequences() -> None:
    request = _read(temperature=0, top_k=5, top_p=0.5, stop_sequences=["\n\n", "END"])
    assert request.sampling == {"temp": 0, "top_k": 5, "top_p": 0.5}
    assert request.stop == ("\n\n", "END")


def test_system_as_text_and_as_blocks() -> None:
    blocks = [{"type": "text", "text": t, "cache_control": {"type": "ephemeral"}} for t in "ab"]
    assert _read(system="rules").messages[0] == Message("system", "rules")
    assert _read(system=blocks).messages[0] == Message("system", "a\n\nb")


def test_the_changing_checksum_of_claude_code_does_not_spoil_the_prefix() -> None:
    head = "x-anthropic-billing-header: cc_version=2.1.101.e51; cc_entrypoint=cli; cch={};"
    first = [{"type": "text", "text": head.format("a5145")}, {"type": "text", "text": "cch=77"}]
    second = [{"type": "text", "text": head.format("00ff1")}, {"type": "text", "text": "cch=77"}]
    assert _read(system=first) == _read(system=second)
    assert "cch=77" in _read(system=first).messages[0].content


def test_a_round_of_tools() -> None:
    request = _read(
        tools=[TOOL],
        messages=[
            {"role": "user", "content": "Where?"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "I look.", "signature": "x"},
                    {"type": "text", "text": "Wait."},
                    {"type": "tool_use", "id": "t1", "name": "find", "input": {"a": 1}},
                    {"type": "tool_use", "id": "t2", "name": "list", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t2",
                        "content": "none",
                        "is_error": True,
                    },
                    {
                        "type": "tool_result",
                        "tool_use_id": "t1",
                        "content": [{"type": "text", "text": "here"}, _image("AAAA")],
                    },
                    {"type": "text", "text": "And now?"},
                ],
            },
        ],
    )
    calls = (ToolCall("find", {"a": 1}), ToolCall("list", {}))
    image = Media("image", Path("AAAA@messages.2.content.1.content.1.source.data"))
    assert request.messages == (
        Message("user", "Where?"),
        Message("assistant", "Wait.", "I look.", calls),
        Message("tool", "Error: none", name="list"),
        Message("tool", "here", name="find"),
        Message("user", "And now?", media=(image,)),
    )
    function = {"name": "find", "description": "Find it.", "parameters": {"type": "object"}}
    assert request.tools == ({"type": "function", "function": function},)


def test_images() -> None:
    content = [{"type": "text", "text": "What is it?"}, _image("AAAA")]
    (message,) = _read(messages=[{"role": "user", "content": content}]).messages
    assert message.content == "What is it?"
    assert message.media == (Media("image", Path("AAAA@messages.0.content.1.source.data")),)


@pytest.mark.parametrize(
    ("wire", "choice", "parallel"),
    [
        ({"type": "auto"}, ToolChoice("auto"), True),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice("required"), False),
        ({"type": "none"}, ToolChoice("none"), True),
        ({"type": "tool", "name": "find"}, ToolChoice("required", "find"), True),
    ],
)
def test_the_choice_of_tools(wire: dict[str, Any], choice: ToolChoice, parallel: bool) -> None:
    request = _read(tools=[TOOL], tool_choice=wire)
    assert (request.tool_choice, request.parallel_tool_calls) == (choice, parallel)


@pytest.mark.parametrize(
    ("thinking", "effort", "expected"),
    [
        ({"type": "disabled"}, None, ("off", 0)),
        ({"type": "enabled", "budget_tokens": 1024}, None, ("on", 1024)),
        ({"type": "adaptive"}, None, ("on", 0)),
        ({"type": "adaptive"}, "low", ("low", 0)),
        ({"type": "adaptive"}, "max", ("on", 0)),
        ({"type": "disabled"}, "high", ("off", 0)),
    ],
)
def test_thinking(thinking: dict[str, Any], effort: str | None, expected: tuple[str, int]) -> None:
    request = _read(thinking=thinking, output_config={"effort": effort})
    assert (request.thinking, request.max_thought_tokens) == expected


@pytest.mark.parametrize(
    "thinking", [None, {"type": "disabled"}, {"type": "enabled", "budget_tokens": 9}]
)
def test_an_effort_needs_a_thought_that_it_limits(thinking: Any) -> None:
    with pytest.raises(BadField) as raised:
        _read(thinking=thinking, output_config={"effort": "low"})
    assert raised.value.field == "output_config.effort"


def test_an_answer_whose_calls_have_no_results_is_not_continued() -> None:
    call = {"type": "tool_use", "id": "t1", "name": "find", "input": {}}
    with pytest.raises(BadField) as raised:
        _read(messages=[*BASE["messages"], {"role": "assistant", "content": [call]}])
    assert raised.value.field == "messages.1.content"


def test_a_schema_and_an_answer_to_be_continued() -> None:
    messages = [*BASE["messages"], {"role": "assistant", "content": "{"}]
    output = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    request = _read(messages=messages, output_config=output)
    assert request.continue_last
    assert request.json_schema == '{"type": "object"}'


def test_counting_asks_for_the_same_prompt() -> None:
    fields = {"system": "s", "tools": [TOOL], "messages": BASE["messages"], "model": "tiny"}
    count = read_request(CountRequest.model_validate(fields), _save)
    assert count.messages == _read(**fields).messages
    assert count.tools == _read(**fields).tools


def test_thoughts_may_be_kept_or_cleared_and_results_of_tools_may_not() -> None:
    edit = {"type": "clear_thinking_20251015", "keep": "all"}
    assert _read(context_management={"edits": [edit]}) == _read()
    with pytest.raises(ValidationError, match="clear_thinking_20251015"):
        _read(context_management={"edits": [{"type": "clear_tool_uses_20250919"}]})


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"container": "x"}, ("container",)),
        ({"mcp_servers": []}, ("mcp_servers",)),
        ({"max_tokens": 0}, ("max_tokens",)),
        ({"messages": []}, ("messages",)),
        ({"service_tier": "fast"}, ("service_tier",)),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, ("tools", 0, "type")),
        ({"tools": [{**TOOL, "strict": True}]}, ("tools", 0, "strict")),
        ({"thinking": {"type": "enabled"}}, ("thinking", "enabled", "budget_tokens")),
        (
            {"messages": [_block(type="image", source={"type": "url", "url": "http://x"})]},
            ("messages", 0, "content", "list", 0, "image", "source", "type"),
        ),
        (
            {"messages": [_block(type="document", source={})]},
            ("messages", 0, "content", "list", 0),
        ),
    ],
)
def test_what_cannot_be_obeyed_is_refused(
    fields: dict[str, Any], place: tuple[str | int, ...]
) -> None:
    with pytest.raises(ValidationError) as raised:
        _read(**fields)
    assert place in [error["loc"] for error in raised.value.errors()]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (_block(type="tool_use", id="a", name="b", input={}), "messages.0.content.0.type"),
        (_block(type="tool_result", tool_use_id="a"), "messages.0.content.0.tool_use_id"),
        ({"role": "assistant", "content": [_image("AAAA")]}, "messages.0.content.0.type"),
    ],
)
def test_blocks_in_the_wrong_place(message: dict[str, Any], field: str) -> None:
    with pytest.raises(BadField) as raised:
        _read(messages=[message])
    assert raised.value.field == field
