"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's form of a conversation.

Source: https://docs.anthropic.com/en/api/messages-streaming and the types of the `anthropic`
package 2.14. `anthropic_request` reads the bodies.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final
from uuid import uuid4

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from g4cli.chat import Finished, PromptRead, Reply, TurnEvent
from g4cli.prompt.messages import ToolCall
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtText
from g4cli.server.anthropic_request import (
    CountRequest,
    MessagesRequest,
    omits_thoughts,
    read_request,
)
from g4cli.server.body import ThreadedBodyRoute
from g4cli.server.media_data import limit_media
from g4cli.server.streaming import (
    AnswerStream,
    encode_typed_event,
    send_answer,
    start_first_turn,
    wait_for_result,
)
from g4cli.server.wire_model import ServiceParam

router = APIRouter(tags=["messages"], route_class=ThreadedBodyRoute)
# Clients send thoughts back with their signature, and do not look into it.
_SIGNATURE: Final = "g4"


@router.post("/v1/messages", response_model=None)
async def create_message(
    body: MessagesRequest, request: Request, service: ServiceParam
) -> Response:
    """Answer the last message of a conversation: as one JSON object, or as a stream of events."""
    asked = await asyncio.to_thread(read_request, body, limit_media(service.media))
    turn, turns = await start_first_turn(request, service, asked)
    message = MessageStream(turn.model.name, omit_thoughts=omits_thoughts(body))
    return await send_answer(request, turn, turns, message, whole=not body.stream)


@router.post("/v1/messages/count_tokens", response_model=None)
async def count_tokens(
    body: CountRequest, request: Request, service: ServiceParam
) -> dict[str, int]:
    """Return how many tokens the prompt of a message would have."""
    asked = await asyncio.to_thread(read_request, body, limit_media(service.media))
    return {"input_tokens": await wait_for_result(request, service.count_tokens(asked))}


class MessageStream(AnswerStream):
    """The events of one message, in the order that Anthropic's clients expect.

    message_start, then for each block content_block_start, content_block_delta and
    content_block_stop, at last message_delta and message_stop. A block is a text, a thought or a
    call. `message` is the whole object as far as it has come.
    """

    def __init__(self, model: str, *, omit_thoughts: bool = False) -> None:
        """`omit_thoughts`: blocks of thoughts come without their text (`display`: "omitted")."""
        self._omit_thoughts = omit_thoughts
        self._open_type = ""
        self._texts: list[str] = []  # of the block that is open, as it comes
        self.message: dict[str, Any] = {
            "id": f"msg_{uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0},
        }

    def convert(self, event: TurnEvent) -> Iterator[dict[str, Any]]:
        """Yield what a client is told of `event`; `message` holds all that was told so far."""
        if isinstance(event, PromptRead):
            self.message["usage"] |= {
                "input_tokens": event.prompt_tokens - event.reused,
                "cache_read_input_tokens": event.reused,
            }
            usage = dict(self.message["usage"])
            yield {
                "type": "message_start",
                "message": {**self.message, "content": [], "usage": usage},
            }
        elif isinstance(event, AnswerText):
            yield from self._open_block({"type": "text", "text": ""})
            yield self._make_text_delta("text_delta", "text", event.text)
        elif isinstance(event, ThoughtText):
            yield from self._open_block({"type": "thinking", "thinking": "", "signature": ""})
            if not self._omit_thoughts:
                yield self._make_text_delta("thinking_delta", "thinking", event.text)
        elif isinstance(event, CallMade):
            yield from self._close_block()
            yield from self._convert_call(event.call)
        elif isinstance(event, Finished):
            yield from self._close_block()
            yield from self._convert_end(event.reply)

    def make_whole(self, reply: Reply) -> dict[str, Any]:
        """Return the message, which `convert` has completed; `reply` is in it."""
        del reply
        return self.message

    def encode(self, value: Mapping[str, Any]) -> str:
        """Return an event whose name is its `type`."""
        return encode_typed_event(value)

    def _open_block(self, empty: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Begin a block like `empty` unless one of its type is open."""
        if self._open_type == empty["type"]:
            return
        yield from self._close_block()
        self._open_type = empty["type"]
        index = len(self.message["content"])
        self.message["content"].append(empty)
        yield {"type": "content_block_start", "index": index, "content_block": dict(empty)}

    def _make_text_delta(self, delta_type: str, key: str, text: str) -> dict[str, Any]:
        self._texts.append(text)
        return self._make_delta({"type": delta_type, key: text})

    def _make_delta(self, delta: Mapping[str, Any]) -> dict[str, Any]:
        index = len(self.message["content"]) - 1
        return {"type": "content_block_delta", "index": index, "delta": delta}

    def _convert_call(self, call: ToolCall) -> Iterator[dict[str, Any]]:
        block = {"type": "tool_use", "id": f"toolu_{uuid4().hex}", "name": call.name, "input": {}}
        yield from self._open_block(block)
        self.message["content"][-1] = {**block, "input": dict(call.arguments)}
        text = json.dumps(call.arguments, ensure_ascii=False)
        yield self._make_delta({"type": "input_json_delta", "partial_json": text})
        yield from self._close_block()

    def _close_block(self) -> Iterator[dict[str, Any]]:
        """End the block that is open, if one is."""
        if not self._open_type:
            return
        block = self.message["content"][-1]
        if self._open_type == "thinking":
            block["thinking"], block["signature"] = "".join(self._texts), _SIGNATURE
            yield self._make_delta({"type": "signature_delta", "signature": _SIGNATURE})
        elif self._open_type == "text":
            block["text"] = "".join(self._texts)
        self._open_type, self._texts = "", []
        yield {"type": "content_block_stop", "index": len(self.message["content"]) - 1}

    def _convert_end(self, reply: Reply) -> Iterator[dict[str, Any]]:
        delta = {"stop_reason": _stop_reason(reply), "stop_sequence": reply.stop_string or None}
        self.message |= delta
        self.message["usage"]["output_tokens"] = reply.completion_tokens
        event: dict[str, Any] = {
            "type": "message_delta",
            "delta": delta,
            "usage": dict(self.message["usage"]),
        }
        if reply.loop is not None:
            loop = {"loop": asdict(reply.loop)}
            event["g4"] = self.message["g4"] = loop
        yield event
        yield {"type": "message_stop"}


def _stop_reason(reply: Reply) -> str:
    if reply.finish_reason == "length":
        return "model_context_window_exceeded" if reply.context_full else "max_tokens"
    if reply.tool_calls:
        return "tool_use"
    return "stop_sequence" if reply.stop_string else "end_turn"
