"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's form of a conversation."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from g4cli.server.anthropic_answer import MessageStream
from g4cli.server.anthropic_request import (
    CountRequest,
    MessagesRequest,
    omits_thoughts,
    read_request,
)
from g4cli.server.body import ThreadedBodyRoute
from g4cli.server.media_data import limit_media
from g4cli.server.streaming import send_answer, start_first_turn, wait_for_result
from g4cli.server.wire_model import ServiceParam

router = APIRouter(tags=["messages"], route_class=ThreadedBodyRoute)


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
