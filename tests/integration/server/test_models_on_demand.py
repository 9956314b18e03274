"""Workers of a server: crashes, models on demand, full queues, clients that go away."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, InternalServerError, OpenAI

from g4cli.server.guard import GuardOptions
from g4cli.server.protocol import TimedProtocol
from tests.support.builders.tiny_file import build_tiny
from tests.support.run.server import RunningServer, run_server, tiny_options, wait_until

ASK: Any = [{"role": "user", "content": "What is Q4_0?"}]
# An answer that goes on for many seconds: until the context is full.
LONG: dict[str, Any] = {"messages": ASK, "ignore_eos": True, "temperature": 2, "stream": True,
                        "g4": {"stop_on_loop": False}}  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "one.gguf", tmp_path / "two.gguf"]
    for path in paths:
        path.write_bytes(build_tiny())
    return paths


@pytest.fixture
def server(files: list[Path]) -> Iterator[RunningServer]:
    with run_server(tiny_options(files[0], queue=1, parallel=1, ctx="16384")) as running:
        yield running


def ask(server: RunningServer, **fields: Any) -> httpx.Response:
    body = {"messages": ASK, "max_tokens": 2, **fields}
    return httpx.post(f"{server.openai_url}/chat/completions", json=body, timeout=60)


def worker_pid(server: RunningServer) -> int:
    (model,) = server.service.pool.models.values()
    pid: int = model.engine.pid  # type: ignore[attr-defined]
    return pid


@pytest.fixture
def client(server: RunningServer) -> Iterator[OpenAI]:
    """Return OpenAI's own client of the server, whose sockets are closed after the test."""
    with OpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.slow
def test_a_killed_model_fails_its_answers_and_serves_the_next(
    server: RunningServer, client: OpenAI
) -> None:
    ask(server)
    body = {k: v for k, v in LONG.items() if k not in ("messages", "stream")}
    for _ in range(3):
        stream = client.chat.completions.create(
            model="one", messages=ASK, stream=True, extra_body=body
        )
        next(iter(stream))
        os.kill(worker_pid(server), signal.SIGKILL)
        with pytest.raises(APIError, match="process"):
            list(stream)
        assert ask(server).status_code == 200
    assert server.service.counters.answers >= 4


@pytest.mark.slow
def test_a_model_that_dies_before_the_first_token_is_status_500(
    server: RunningServer, client: OpenAI
) -> None:
    ask(server)
    failures: list[Exception] = []

    def ask_again() -> None:
        try:
            client.chat.completions.create(
                model="one", messages=ASK,
                extra_body={k: v for k, v in LONG.items() if k not in ("messages", "stream")},
            )  # fmt: skip
        except InternalServerError as err:
            failures.append(err)

    thread = threading.Thread(target=ask_again)
    thread.start()
    (model,) = server.service.pool.models.values()
    wait_until(lambda: model.n_users == 1)
    os.kill(worker_pid(server), signal.SIGKILL)
    thread.join(60)
    assert len(failures) == 1


@pytest.mark.slow
def test_a_full_queue_answers_503_and_when_to_retry(server: RunningServer) -> None:
    ask(server)
    url = f"{server.openai_url}/chat/completions"
    with httpx.stream("POST", url, json=LONG, timeout=60) as running:
        lines = running.iter_lines()  # to drop it would close the connection
        next(lines)
        waiting = threading.Thread(target=lambda: ask(server))
        waiting.start()
        (model,) = server.service.pool.models.values()
        wait_until(lambda: model.n_users == 2)
        refused = ask(server)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "queue-full"
    waiting.join(60)
    assert ask(server).status_code == 200


@pytest.mark.slow
def test_a_client_that_goes_away_frees_its_slot(server: RunningServer) -> None:
    ask(server)
    url = f"{server.openai_url}/chat/completions"
    (model,) = server.service.pool.models.values()
    for stream in (True, False):
        body = {**LONG, "stream": stream}
        patience = httpx.Timeout(60, read=60 if stream else 0.5)
        try:
            with httpx.stream("POST", url, json=body, timeout=patience) as answer:
                next(answer.iter_lines())
        except httpx.ReadTimeout:
            assert not stream
        wait_until(lambda: model.n_users == 0)
    assert ask(server).status_code == 200


@pytest.mark.slow
def test_an_idle_model_is_unloaded_and_loaded_again(files: list[Path]) -> None:
    with run_server(tiny_options(files[0], keep_alive_s=0.2)) as server:
        for _ in range(2):
            assert ask(server).status_code == 200
            wait_until(lambda: not server.service.pool.models)
        state = httpx.get(f"{server.openai_url}/models", timeout=60).json()["data"][0]["status"]
        assert state == {"value": "unloaded"}


@pytest.mark.slow
def test_the_least_used_model_makes_room(files: list[Path]) -> None:
    both = [str(path) for path in files]
    with run_server(tiny_options(files[0], models=both, max_models=1, ctx="16384")) as server:
        for name in ("one", "two", "one"):
            answer = ask(server, model=name)
            assert (answer.status_code, answer.json()["model"]) == (200, name)
            assert list(server.service.pool.models) == [name]
        url = f"{server.openai_url}/chat/completions"
        with httpx.stream("POST", url, json={**LONG, "model": "one"}, timeout=60) as running:
            lines = running.iter_lines()
            next(lines)
            busy = ask(server, model="two")
            assert busy.status_code == 503
            assert "no room" in busy.json()["error"]["message"]


def test_a_model_is_loaded_beside_one_whose_file_was_deleted(files: list[Path]) -> None:
    with run_server(tiny_options(files[0], models=[str(file) for file in files])) as server:
        assert ask(server, model="one").status_code == 200
        files[0].unlink()
        assert ask(server, model="two").status_code == 200


@pytest.mark.slow
def test_many_first_requests_start_one_worker(server: RunningServer) -> None:
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(ask(server).status_code)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [200, 200]
    (model,) = server.service.pool.models.values()
    assert model.engine.n_starts == 1  # type: ignore[attr-defined]


def connect(server: RunningServer) -> socket.socket:
    port = int(server.url.rpartition(":")[2])
    return socket.create_connection(("127.0.0.1", port), timeout=10)


@pytest.mark.slow
def test_headers_that_come_letter_by_letter_are_cut_off(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TimedProtocol, "header_timeout_s", 0.3)
    for begin in (b"", b"GET /health HTTP/1.1\r\n", b"GET /hea"):
        with connect(server) as slow:
            slow.sendall(begin)
            assert ask(server).status_code == 200, "others are served meanwhile"
            with suppress(ConnectionResetError):
                assert slow.recv(1000) == b""


@pytest.mark.slow
def test_a_client_that_reads_nothing_is_cut_off(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TimedProtocol, "send_timeout_s", 0.3)
    with run_server(tiny_options(files[0], parallel=1), GuardOptions()) as server:
        ask(server)
        (model,) = server.service.pool.models.values()
        with connect(server) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            # Answers of errors, pipelined until all buffers on the way are full.
            request = b"GET /v1/models/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
            slow.settimeout(0.5)
            with pytest.raises((ConnectionError, TimeoutError)):
                slow.sendall(request * 1_000_000)
        assert ask(server).status_code == 200
        assert model.n_users == 0


@pytest.mark.slow
def test_too_large_headers_are_refused(server: RunningServer) -> None:
    with connect(server) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000)
        answer = client.recv(1000)
        assert answer.startswith(b"HTTP/1.1 4")


@pytest.mark.slow
def test_what_is_no_http_is_refused(server: RunningServer) -> None:
    for nonsense in (b"\x16\x03\x01\x02\x00" * 20, b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n"):
        with connect(server) as client:
            client.sendall(nonsense)
            client.settimeout(5)
            assert b"200" not in client.recv(1000)
    assert ask(server).status_code == 200
