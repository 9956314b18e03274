"""POST /v1/chat/completions: OpenAI's form of a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from g4cli.chat import TurnEvent
from g4cli.operations.serving.loaded import Turn
from g4cli.operations.serving.requests import TurnRequest
from g4cli.operations.serving.service import Service
from g4cli.server.body import ThreadedBodyRoute
from g4cli.server.openai_answer import (
    AnswerId,
    ChunkWriter,
    collect_choice,
    make_completion,
    write_usage_chunk,
)
from g4cli.server.openai_messages import make_turn_request
from g4cli.server.openai_request import ChatBody
from g4cli.server.streaming import (
    PiecewiseResponse,
    encode_error,
    read_whole,
    run_together,
    send_json,
    start_first_turn,
    wait_for_result,
)
from g4cli.server.wire_model import ServiceParam

router = APIRouter(tags=["chat"], route_class=ThreadedBodyRoute)
# A choice: events of all choices (`n`) together that wait for a slow client before it slows them.
_EVENTS_AHEAD: Final = 64


@router.post("/v1/chat/completions", response_model=None)
@router.post("/chat/completions", response_model=None, include_in_schema=False)
async def complete_chat(body: ChatBody, request: Request, service: ServiceParam) -> Response:
    """Answer the last message of a conversation: as one JSON object, or as a stream of events."""
    # Decoding images takes time: in a thread, other requests go on meanwhile.
    first = await asyncio.to_thread(make_turn_request, body, service.media)
    requests = [replace(first, choice=index) for index in range(body.n or 1)]
    if not body.stream:
        collecting = run_together(collect_choice(service, item) for item in requests)
        choices = await wait_for_result(request, collecting)
        answer = AnswerId.new(service.find_model(body.model).name)
        return send_json(make_completion(answer, choices, logprobs=bool(body.logprobs)))
    turn, turns = await start_first_turn(request, service, first)
    return PiecewiseResponse(_write_chunks(service, body, turn, requests), turns)


async def _write_chunks(
    service: Service, body: ChatBody, turn: Turn, requests: list[TurnRequest]
) -> AsyncIterator[str]:
    """Yield the server-sent events of all choices.

    `turn` is the answer to the first of `requests`, begun. An error can no longer change the
    status, which is sent: it is the last event, in the form of an error's body.
    """
    answer = AnswerId.new(turn.model.name)
    include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    writers = [
        ChunkWriter(answer, index, include_usage=include_usage) for index in range(len(requests))
    ]
    try:
        for writer in writers:
            yield writer.write_role()
        async for index, event in _merge_turns(service, turn, requests[1:]):
            if chunk := writers[index].write_event(event):
                yield chunk
        if include_usage:
            yield write_usage_chunk(answer, [w.reply for w in writers if w.reply])
        yield "data: [DONE]\n\n"
    except Exception as err:
        yield encode_error(err, "/v1/chat/completions")


async def _merge_turns(
    service: Service, first: Turn, others: list[TurnRequest]
) -> AsyncIterator[tuple[int, TurnEvent]]:
    """Yield the events of all choices as they come, each with the number of its choice.

    `first` is choice 0; `others` are the requests of the choices after it, which are started here.
    Raises what the first of them to fail raises; the others are ended then.
    """
    if not others:
        async for event in read_whole(first):
            yield 0, event
        return
    queue: asyncio.Queue[Any] = asyncio.Queue(_EVENTS_AHEAD)

    async def forward(index: int, turn: Turn) -> None:
        async for event in read_whole(turn):
            await queue.put((index, event))

    async def start(index: int, request: TurnRequest) -> None:
        async with service.start_turn(request) as turn:
            await forward(index, turn)

    async def run_all() -> None:
        try:
            starting = [start(index, request) for index, request in enumerate(others, 1)]
            await run_together([forward(0, first), *starting])
            await queue.put(None)  # all have ended
        except Exception as err:
            await queue.put(err)

    runner = asyncio.create_task(run_all())
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        runner.cancel()
        await asyncio.gather(runner, return_exceptions=True)
