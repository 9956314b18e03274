"""Answers that repeat themselves, of a server: `--on-loop stop` and `warn`.

The model is a copy of `tiny` whose output can only be `---` and loops from its first token on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from g4cli.operations.serving.opening import make_service
from g4cli.server.logs import log_reply
from tests.support.builders.damage import KINDS
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.reporter import RecordingReporter
from tests.support.run.server import RunningServer, run_service, tiny_options

ASK = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 600}


@pytest.fixture(scope="module")
def looping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("loops") / "dashes.gguf"
    path.write_bytes(KINDS["dashes"](build_tiny()))
    return path


@contextmanager
def serve(path: Path, **options: object) -> Iterator[RunningServer]:
    """Yield a server that logs its answers."""
    service = make_service(tiny_options(path, **options), RecordingReporter(), log_reply)
    with run_service(service) as running:
        yield running


def ask(url: str, **fields: Any) -> Any:
    return httpx.post(f"{url}/chat/completions", json={**ASK, **fields}, timeout=60)


@pytest.mark.slow
def test_an_answer_that_repeats_itself_goes_on_with_a_warning(
    looping: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(looping, on_loop="warn") as server, caplog.at_level(logging.WARNING):
        body = ask(server.openai_url).json()
        chunks = ask(server.openai_url, stream=True).text
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 600
    assert body["g4"]["loop"]["period"] == 2
    *_, last, _ = [line for line in chunks.splitlines() if line.startswith("data:")]
    assert json.loads(last.removeprefix("data:"))["g4"]["loop"]["period"] == 2
    assert "not stopped: it repeated itself (exact)" in caplog.text


@pytest.mark.slow
def test_an_answer_that_repeats_itself_is_stopped_by_default(
    looping: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(looping) as server, caplog.at_level(logging.WARNING):
        body = ask(server.openai_url).json()
        free = ask(server.openai_url, g4={"stop_on_loop": False}).json()
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] < 600
    assert "; stopped: it repeats itself (exact)" in caplog.text
    assert free["usage"]["completion_tokens"] == 600
    assert "g4" not in free
