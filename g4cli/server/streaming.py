"""Answers that come piece by piece, and answers that nobody waits for any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from g4cli.core.errors import Interrupted

T = TypeVar("T")
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def encode_json(value: Any) -> str:
    """Return `value` as compact JSON in UTF-8; half characters (lone surrogates) are replaced."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode()


def stream_events(events: AsyncIterator[str]) -> Response:
    """Return a response of server-sent events; each item is the text of one, with its blank line."""
    return StreamingResponse(events, media_type="text/event-stream", headers=_HEADERS)


def stream_lines(lines: AsyncIterator[str]) -> Response:
    """Return a response of JSON lines, as Ollama sends them; each item is one with its newline."""
    return StreamingResponse(lines, media_type="application/x-ndjson", headers=_HEADERS)


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


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
