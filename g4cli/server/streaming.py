"""Answers that are sent piece by piece or whole, and that end when their client goes away."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Coroutine,
    Iterable,
    Iterator,
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
from g4cli.server.errors import Problem, explain_and_log

T = TypeVar("T")
# Neither a cache nor nginx (which calls it so) may hold pieces back.
_HEADERS: Final = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def encode_json(value: Any) -> str:
    """Return `value` as compact JSON; lone surrogates, which UTF-8 has no bytes for, become "?"."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode()


def encode_event(value: Any) -> str:
    """Return `value` as a server-sent event."""
    return f"data: {encode_json(value)}\n\n"


def encode_typed_event(value: Mapping[str, Any]) -> str:
    """Return `value` as a server-sent event whose name is its `type`."""
    return f"event: {value['type']}\n{encode_event(value)}"


def encode_error(err: Exception, path: str) -> str:
    """Return an error in the middle of the stream of the route `path` as its last event."""
    return encode_event(explain_and_log(err, "POST", path).as_body(path))


async def read_whole(turn: Turn) -> AsyncIterator[TurnEvent]:
    """Yield the events of an answer; the last is Finished.

    Raises Interrupted if the answer was stopped before its end, such as when the server is stopped.
    """
    async for event in turn:
        if isinstance(event, Finished) and event.reply.finish_reason == "interrupted":
            break
        yield event
        if isinstance(event, Finished):
            return
    raise Interrupted("the answer was stopped")


class AnswerStream(ABC):
    """One answer in a wire format: as the objects of a stream, or whole as one object."""

    media_type = "text/event-stream"

    @abstractmethod
    def convert(self, event: TurnEvent) -> Iterator[dict[str, Any]]:
        """Yield the objects that tell a client of `event`.

        Each is encoded, or dropped, before the next is made: it may refer to what changes then.
        """

    @abstractmethod
    def make_whole(self, reply: Reply) -> dict[str, Any]:
        """Return the answer as one object, after all of its events were converted."""

    def describe_error(self, problem: Problem, path: str) -> dict[str, Any]:
        """Return the last object of a stream of the route `path` that an error ended."""
        return problem.as_body(path)

    def encode(self, value: Mapping[str, Any]) -> str:
        """Return an object of the stream as text."""
        return encode_event(value)

    async def write_pieces(self, turn: Turn, path: str) -> AsyncIterator[str]:
        """Yield the objects of an answer as text.

        An error can no longer change the status, which is sent: it is the last object.
        """
        try:
            async for event in read_whole(turn):
                for value in self.convert(event):
                    yield self.encode(value)
        except Exception as err:
            yield self.encode(self.describe_error(explain_and_log(err, "POST", path), path))

    async def read_reply(self, turn: Turn) -> Reply:
        """Convert all events of an answer, for `make_whole`, and return its reply."""
        async for event in read_whole(turn):
            for _ in self.convert(event):
                pass
        assert isinstance(event, Finished)
        return event.reply


class PiecewiseResponse(StreamingResponse):
    """A response that is sent piece by piece; `turns` is closed when it ends, however it ends.

    Without `media_type` each piece is a server-sent event, with the blank line behind it.
    """

    def __init__(
        self,
        pieces: AsyncIterator[str],
        turns: AsyncExitStack,
        media_type: str = "text/event-stream",
    ) -> None:
        super().__init__(pieces, media_type=media_type, headers=_HEADERS)
        self._turns = turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the pieces until they end or the client goes away."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # The pieces first: tasks that they have started still read from the turns.
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()
            await self._turns.aclose()


def send_json(value: Mapping[str, Any]) -> Response:
    """Return a response of one JSON object."""
    return Response(encode_json(value), media_type="application/json")


async def send_answer(
    request: Request, turn: Turn, turns: AsyncExitStack, answer: AnswerStream, *, whole: bool
) -> Response:
    """Return the response with `answer`: `whole` as one object, or as a stream.

    `turn` gives its events. `turns` ends that turn, and is closed when the answer is sent.
    """
    if not whole:
        pieces = answer.write_pieces(turn, request.url.path)
        return PiecewiseResponse(pieces, turns, answer.media_type)
    async with turns:
        reply = await wait_for_result(request, answer.read_reply(turn))
    return send_json(answer.make_whole(reply))


async def start_first_turn(
    request: Request, service: Service, turn_request: TurnRequest
) -> tuple[Turn, AsyncExitStack]:
    """Return the turn, begun, and the stack of contexts whose closing ends it.

    What is wrong with a request is known then, before a status is sent. The turn ends here if the
    client goes away meanwhile. Raises Interrupted then, and what Service.start_turn raises.
    """
    async with AsyncExitStack() as turns:
        entering = turns.enter_async_context(service.start_turn(turn_request))
        return await wait_for_result(request, entering), turns.pop_all()


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
