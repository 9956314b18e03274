"""Answers that come piece by piece, and answers that nobody waits for any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from g4cli.chat import Finished, Reply, TurnEvent
from g4cli.core.errors import Interrupted
from g4cli.operations.serving.loaded import Turn
from g4cli.operations.serving.requests import TurnRequest
from g4cli.operations.serving.service import Service

T = TypeVar("T")
# Neither a cache nor nginx (which calls it so) may hold pieces back.
_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def encode_json(value: Any) -> str:
    """Return `value` as compact JSON in UTF-8; half characters (lone surrogates) are replaced."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode()


def encode_event(value: Any) -> str:
    """Return `value` as a server-sent event."""
    return f"data: {encode_json(value)}\n\n"


def encode_typed_event(value: Mapping[str, Any]) -> str:
    """Return `value` as a server-sent event whose name is its `type`."""
    return f"event: {value['type']}\n{encode_event(value)}"


def require_whole(reply: Reply) -> Reply:
    """Return `reply`. Raises Interrupted if it was stopped: the server ends, say."""
    if reply.finish_reason == "interrupted":
        raise Interrupted("the answer was stopped")
    return reply


async def convert_all(turn: Turn, convert: Callable[[TurnEvent], Iterable[object]]) -> Reply:
    """Pass all events of an answer to `convert`, which keeps what it makes of them.

    Raises what `convert` raises, and Interrupted if the answer was stopped.
    """
    async for event in turn:
        for _ in convert(event):
            pass
        if isinstance(event, Finished):
            return event.reply
    raise Interrupted("the answer was stopped")


class PiecewiseResponse(StreamingResponse):
    """A response that is sent piece by piece; `turns` is closed when it ends, however it ends."""

    def __init__(self, pieces: AsyncIterator[str], turns: AsyncExitStack, media_type: str) -> None:
        super().__init__(pieces, media_type=media_type, headers=_HEADERS)
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces until they end or the client goes away."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # The pieces first: what they started reads from the turns.
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()
            await self._turns.aclose()


def stream_events(events: AsyncIterator[str], turns: AsyncExitStack) -> Response:
    """Return a response of server-sent events; each item is one event with its blank line."""
    return PiecewiseResponse(events, turns, "text/event-stream")


def stream_lines(lines: AsyncIterator[str], turns: AsyncExitStack) -> Response:
    """Return a response of JSON lines, as Ollama sends them; each item is one with its newline."""
    return PiecewiseResponse(lines, turns, "application/x-ndjson")


async def start_first_turn(
    request: Request, service: Service, turn_request: TurnRequest, turns: AsyncExitStack
) -> Turn:
    """Return the turn, begun, which `turns` ends; it ends at once if the client goes away before.

    What is wrong with a request is known then, before a status is sent. Raises what
    Service.start_turn raises.
    """
    try:
        entering = turns.enter_async_context(service.start_turn(turn_request))
        return await wait_for_result(request, entering)
    except BaseException:
        await turns.aclose()
        raise


async def wait_for_result(request: Request, work: Awaitable[T]) -> T:
    """Return the result of `work`, which is canceled if the client goes away meanwhile.

    Raises what `work` raises, and Interrupted if the client is gone.
    """
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Interrupted("the client went away")
    finally:
        for part in (task, watcher):
            part.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)


async def run_together(jobs: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Return the results of all `jobs`, which run at once; when one fails, the others are canceled.

    Raises what the first of them to fail raises, after all have ended.
    """
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
