"""`g4 serve` as a user starts and stops it: a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.builders.tiny_file import build_tiny
from tests.support.run.command import g4
from tests.support.run.process import wait_until_gone
from tests.support.run.server import wait_until
from tests.support.run.server_process import start_server

ASK = {"messages": [{"role": "user", "content": "What is Q4_0?"}], "temperature": 0}
# An answer that goes on until the context is full.
LONG: dict[str, Any] = {**ASK, "ignore_eos": True, "stream": True, "temperature": 2,
                        "g4": {"stop_on_loop": False}}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> str:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    return str(path)


def test_ctrl_c_ends_the_server_and_its_model(model: str) -> None:
    with start_server(model, "--log-format", "json") as (process, url):
        answer = httpx.post(f"{url}/v1/chat/completions", json=ASK, timeout=60)
        assert answer.json()["choices"][0]["message"]["content"]
        children = psutil.Process(process.pid).children()
        assert children
        process.send_signal(signal.SIGINT)
        log = process.communicate(timeout=60)[1]
        assert process.returncode == 0
        wait_until(lambda: not any(child.is_running() for child in children))
    entries = [json.loads(line) for line in log.splitlines()]
    assert [e["event"] for e in entries if "event" in e][-2:] == ["answer", "request"]
    assert "Q4_0" not in log, "no word of a prompt is logged"


def is_closed(url: str) -> bool:
    """Return whether the server takes no more connections, as after its first signal."""
    address = httpx.URL(url)
    try:
        socket.create_connection((address.host, address.port), timeout=60).close()
    except OSError:
        return True
    return False


@pytest.mark.slow
def test_a_running_answer_gets_two_seconds(model: str) -> None:
    with start_server(model, "--ctx", "2048") as (process, url):
        body = {**ASK, "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGINT)
            assert [line for line in lines if line][-1] == "data: [DONE]"
        process.wait(60)
        assert process.returncode == 0


@pytest.mark.slow
def test_a_second_ctrl_c_ends_a_running_answer_at_once(model: str) -> None:
    with start_server(model, "--ctx", "2048") as (process, url):
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=LONG, timeout=60) as answer:
            lines = answer.iter_lines()
            next(lines)
            process.send_signal(signal.SIGINT)
            wait_until(lambda: is_closed(url))
            process.send_signal(signal.SIGINT)
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        process.wait(60)
        assert process.returncode == 0


@pytest.mark.slow
def test_a_server_that_is_killed_leaves_no_model_behind(model: str) -> None:
    with start_server(model) as (process, url):
        httpx.post(f"{url}/v1/chat/completions", json={**ASK, "max_tokens": 1}, timeout=60)
        children = psutil.Process(process.pid).children()
        assert children
        os.kill(process.pid, signal.SIGKILL)
        assert all(wait_until_gone(child.pid) for child in children)


def test_a_file_that_cannot_be_served_ends_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 100)
    code, _, err = g4(capsys, "serve", path, "--port", "0")
    assert code == 5
    assert "broken.gguf" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--host", "0.0.0.0"], "an API key is needed"),
        (["--host", "::"], "an API key is needed"),
        (["--parallel", "0"], "--parallel auto"),
        (["--keep-alive", "soon"], "not a duration: 'soon'"),
        (["--api-key", " "], "all of them are empty"),
        (["--api-key-file", "missing.txt"], "missing.txt"),
        (["--host", "256.1.1.1", "--no-auth"], "cannot listen"),
    ],
)
def test_options_that_cannot_be_obeyed(
    model: str, capsys: pytest.CaptureFixture[str], args: list[str], what: str
) -> None:
    code, _, err = g4(capsys, "serve", model, "--port", "0", *args)
    assert code == (3 if "missing.txt" in args else 2)
    assert what in err


@pytest.mark.slow
def test_a_port_in_use_is_named(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with start_server(model) as (_, url):
        port = url.rpartition(":")[2]
        code, _, err = g4(capsys, "serve", model, "--port", port)
    assert code == 2
    assert port in err
    assert "--port 0" in err
