"""A bug in the process of the model is told to the log, and to the client only that it is one."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from g4cli.core.errors import G4Error
from g4cli.server.app import make_api


class BrokenService:
    """A service whose model reports a bug, as `error_of` makes it of the worker's message."""

    def list_models(self) -> Any:
        """Raise the report."""
        raise G4Error("a bug in the process that runs the model:\nTraceback: secret.py")


@pytest.mark.slow
def test_a_bug_of_the_model_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    service: Any = BrokenService()
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/v1/models", "raw_path": b"/v1/models",
        "query_string": b"", "headers": [], "http_version": "1.1", "scheme": "http",
    }  # fmt: skip
    with caplog.at_level(logging.ERROR, "g4.serve"):
        asyncio.run(make_api(service)(scope, receive, send))
    assert sent[0]["status"] == 500
    assert "secret.py" not in json.loads(sent[1]["body"])["error"]["message"]
    assert "secret.py" in caplog.text
