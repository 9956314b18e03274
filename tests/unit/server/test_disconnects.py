"""Requests whose client goes away: what was begun for them is canceled."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from g4cli.operations.serving.media_files import MediaFiles
from g4cli.server.app import make_api

HELLO = [{"role": "user", "content": "Hi"}]


class StuckService:
    """A service whose model does not answer; `canceled` names the calls that were given up."""

    def __init__(self) -> None:
        self.media = MediaFiles()
        self.canceled: list[str] = []

    def __getattr__(self, name: str) -> Any:
        async def wait(*_: Any, **__: Any) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.canceled.append(name)
                raise

        return wait


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "body", "call"),
    [
        ("/tokenize", {"content": "Hi"}, "tokenize"),
        ("/detokenize", {"tokens": [1]}, "detokenize"),
        ("/apply-template", {"messages": HELLO}, "render_prompt"),
        ("/v1/messages/count_tokens", {"model": "tiny", "messages": HELLO}, "count_tokens"),
    ],
)
def test_work_for_a_client_that_went_away_ends(path: str, body: Any, call: str) -> None:
    service = StuckService()
    api = make_api(service)  # type: ignore[arg-type]
    messages = [
        {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(_: Any) -> None:
        pass

    headers = [(b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": headers,
        "query_string": b"",
    }
    asyncio.run(asyncio.wait_for(api(scope, receive, send), 10))
    assert service.canceled == [call]
