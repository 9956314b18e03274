"""One running server with `tiny` for all tests of this folder that only ask it something."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.support.builders.tiny_file import build_tiny
from tests.support.run.server import RunningServer, run_server, tiny_options


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server with the model `tiny`, also called `small`, greedy by default."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    path.write_bytes(build_tiny())
    with run_server(tiny_options(path, aliases=("small",))) as running:
        yield running


@pytest.fixture
def openai(server: RunningServer) -> Iterator[OpenAI]:
    """Return OpenAI's own client of the server, whose sockets are closed after the test."""
    with OpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client:
        yield client
