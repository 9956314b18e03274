"""POST /v1/responses: OpenAI's newer form of a conversation, as one object or as typed events.

Source: openai-python, src/openai/types/responses/. Nothing is stored: each request holds the whole
conversation. An answer is a list of items (a thought, a message, calls) in the order they came. A
thought or a message consists of parts; here it has one. Each item and part is told by an event when
it begins, events with what is added to it, and events when it ends.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from g4cli.chat import Finished, PromptRead, Reply, TurnEvent
from g4cli.prompt.messages import ToolCall
from g4cli.prompt.reply import AnswerText, CallMade, ThoughtText
from g4cli.server.body import ThreadedBodyRoute
from g4cli.server.errors import Problem
from g4cli.server.openai_answer import make_call
from g4cli.server.responses_request import ResponsesBody, make_turn_request
from g4cli.server.streaming import (
    AnswerStream,
    encode_typed_event,
    send_answer,
    start_first_turn,
)
from g4cli.server.wire_model import ServiceParam

router = APIRouter(tags=["responses"], route_class=ThreadedBodyRoute)
# Type of an item -> type of its part.
_PARTS: Final = {"message": "output_text", "reasoning": "reasoning_text"}


@router.post("/v1/responses", response_model=None)
@router.post("/responses", response_model=None, include_in_schema=False)
async def create_response(body: ResponsesBody, request: Request, service: ServiceParam) -> Response:
    """Answer a conversation: as one JSON object, or as a stream of events."""
    asked = await asyncio.to_thread(make_turn_request, body, service.media)
    turn, turns = await start_first_turn(request, service, asked)
    answer = ResponseStream(body, turn.model.name)
    return await send_answer(request, turn, turns, answer, whole=not body.stream)


class ResponseStream(AnswerStream):
    """The events of one response. `response` is the object as far as it has come.

    A message or thought is open while its text comes: `_open_type` is its type ("": none is open),
    `_text` its text so far.
    """

    def __init__(self, body: ResponsesBody, model: str) -> None:
        self._n_events = 0
        self._text: list[str] = []
        self._open_type = ""
        self.response: dict[str, Any] = {
            "id": f"resp_{secrets.token_hex(16)}",
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": model,
            "output": [],
            "usage": None,
            **_repeat_request(body),
        }

    def convert(self, event: TurnEvent) -> Iterator[dict[str, Any]]:
        """Yield what a client is told of `event`; `response` holds all that was told so far."""
        if isinstance(event, PromptRead):
            for kind in ("created", "in_progress"):
                yield self._make_event(f"response.{kind}", response=self.response)
        elif isinstance(event, (AnswerText, ThoughtText)):
            yield from self._open_item("message" if isinstance(event, AnswerText) else "reasoning")
            self._text.append(event.text)
            yield self._make_text_event("delta", delta=event.text)
        elif isinstance(event, CallMade):
            yield from self._close_item()
            yield from self._convert_call(event.call)
        elif isinstance(event, Finished):
            is_cut = event.reply.finish_reason == "length"
            yield from self._close_item("incomplete" if is_cut else "completed")
            yield self._convert_end(event.reply)

    def make_whole(self, reply: Reply) -> dict[str, Any]:
        """Return the response, which `convert` has completed; `reply` is in it."""
        del reply
        return self.response

    def describe_error(self, problem: Problem, path: str) -> dict[str, Any]:
        """Return the last event of an answer that an error ended."""
        del path
        error = {"code": "server_error", "message": problem.message}
        self.response |= {"status": "failed", "error": error}
        return self._make_event("response.failed", response=self.response)

    def encode(self, value: Mapping[str, Any]) -> str:
        """Return an event whose name is its `type`."""
        return encode_typed_event(value)

    def _make_event(self, kind: str, **fields: Any) -> dict[str, Any]:
        event = {"type": kind, "sequence_number": self._n_events, **fields}
        self._n_events += 1
        return event

    def _make_item_event(self, kind: str, **fields: Any) -> dict[str, Any]:
        output = self.response["output"]
        place = {"item_id": output[-1]["id"], "output_index": len(output) - 1}
        return self._make_event(kind, **place, **fields)

    def _add_item(self, item: dict[str, Any]) -> dict[str, Any]:
        index = len(self.response["output"])
        self.response["output"].append(item)
        return self._make_event("response.output_item.added", output_index=index, item=item)

    def _end_item(self, **changes: Any) -> dict[str, Any]:
        """End the last item, with what has become of it."""
        index = len(self.response["output"]) - 1
        item = self.response["output"][index]
        item |= changes
        return self._make_event("response.output_item.done", output_index=index, item=item)

    def _open_item(self, kind: str) -> Iterator[dict[str, Any]]:
        """Begin a message or a thought unless one is open."""
        if self._open_type == kind:
            return
        yield from self._close_item()
        self._open_type = kind
        item: dict[str, Any] = {"type": kind, "status": "in_progress", "content": []}
        if kind == "message":
            yield self._add_item(
                {"id": f"msg_{secrets.token_hex(16)}", "role": "assistant", **item}
            )
        else:
            yield self._add_item({"id": f"rs_{secrets.token_hex(16)}", "summary": [], **item})
        part = self._make_part("")
        yield self._make_item_event("response.content_part.added", content_index=0, part=part)

    def _make_part(self, text: str) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if self._open_type == "message":
            more = {"annotations": [], "logprobs": []}
        return {"type": _PARTS[self._open_type], "text": text, **more}

    def _make_text_event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Return the event `kind` ("delta" or "done") of the text of the item that is open."""
        if self._open_type == "message":
            fields["logprobs"] = []
        name = f"response.{_PARTS[self._open_type]}.{kind}"
        return self._make_item_event(name, content_index=0, **fields)

    def _close_item(self, status: str = "completed") -> Iterator[dict[str, Any]]:
        """End the message or thought that is open, if one is."""
        if not self._open_type:
            return
        text = "".join(self._text)
        part = self._make_part(text)
        yield self._make_text_event("done", text=text)
        yield self._make_item_event("response.content_part.done", content_index=0, part=part)
        self._open_type, self._text = "", []
        yield self._end_item(status=status, content=[part])

    def _convert_call(self, call: ToolCall) -> Iterator[dict[str, Any]]:
        made = make_call(call)
        arguments = made["function"]["arguments"]
        yield self._add_item(
            {
                "id": f"fc_{secrets.token_hex(16)}",
                "type": "function_call",
                "status": "in_progress",
                "call_id": made["id"],
                "name": call.name,
                "arguments": "",
            }
        )
        yield self._make_item_event("response.function_call_arguments.delta", delta=arguments)
        kind = "response.function_call_arguments.done"
        yield self._make_item_event(kind, arguments=arguments, name=call.name)
        yield self._end_item(status="completed", arguments=arguments)

    def _convert_end(self, reply: Reply) -> dict[str, Any]:
        status = "completed"
        if reply.finish_reason == "length":
            status = "incomplete"
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        self.response |= {
            "status": status,
            "usage": {
                "input_tokens": reply.prompt_tokens,
                "input_tokens_details": {"cached_tokens": reply.reused_tokens},
                "output_tokens": reply.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": reply.thought_tokens},
                "total_tokens": reply.prompt_tokens + reply.completion_tokens,
            },
        }
        if reply.loop is not None:
            self.response["g4"] = {"loop": asdict(reply.loop)}
        return self._make_event(f"response.{status}", response=self.response)


def _repeat_request(body: ResponsesBody) -> dict[str, Any]:
    """Return the fields of a request that its response repeats, or their defaults."""
    given = body.model_dump(
        include={"text", "tool_choice", "tools"}, by_alias=True, exclude_none=True
    )
    return {
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
        "store": False,
        "temperature": body.temperature,
        "text": given.get("text", {"format": {"type": "text"}}),
        "tool_choice": given.get("tool_choice", "auto"),
        "tools": given.get("tools", []),
        "top_p": body.top_p,
        "truncation": "disabled",
    }
