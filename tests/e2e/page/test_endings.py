"""How answers end: loops with the doctor's command, a full context, a server that was killed."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from g4cli.chat import FoundLoop
from tests.e2e.page.test_conversation import ask
from tests.support.paths import ROOT
from tests.support.run.server import RunningServer, run_server, tiny_options, wait_until

pytestmark = [pytest.mark.requires_chromium, pytest.mark.slow]
ServeScript = Callable[..., RunningServer]
KILLED_SERVER = """
import sys, time
from pathlib import Path
from tests.support.fakes.scripted_engine import make_scripted_service
from tests.support.run.server import run_service

def count(prompt):
    return [part for n in range(1, 2000) for part in (f"{n} ", 0.02)]

with run_service(make_scripted_service(Path(sys.argv[1]), count), port=int(sys.argv[2])):
    time.sleep(600)
"""


def test_an_answer_that_repeated_itself_offers_the_doctor(
    page: Any, serve_script: ServeScript, tiny_path: Path
) -> None:
    late = FoundLoop("I am sure. ", 4, 200, 48)
    early = FoundLoop("\n", 1, 0, 30, "few-tokens")
    server = serve_script(lambda prompt: ["I am sure. ", early if "early" in prompt else late])
    page.goto(server.url)
    ask(page, "Are you sure?")
    note = page.locator(".note.bad")
    expect(note).to_contain_text(
        "Stopped: the answer repeated the same text 12 times (48 tokens, from token 201)."
    )
    expect(note.locator(".loop-unit")).to_have_text("I am sure.")
    expect(note).to_contain_text("A sound model can drift into a loop.")
    # The server got a file, which has this name nowhere else.
    command = f"g4 doctor {tiny_path}"
    expect(note).to_contain_text(command)
    note.get_by_label("Copy the command").click()
    assert page.evaluate("navigator.clipboard.readText()") == command
    page.reload()
    expect(note).to_contain_text(command)
    ask(page, "early?")
    expect(note).to_have_count(2)
    expect(note.last).to_contain_text("the same 1 token (30 tokens, from token 1)")
    expect(note.last).to_contain_text("the file may be damaged")


def test_a_full_context_says_what_to_do(page: Any, tiny_path: Path) -> None:
    with run_server(tiny_options(tiny_path, ctx="256")) as server:
        page.goto(server.url)
        ask(page, "count " * 60)  # 252 tokens: the answer has room for four
        expect(page.locator(".notes")).to_contain_text("The context is full")
        page.click("#toggle-settings")
        page.get_by_label("Context in tokens").fill("1024")
        page.keyboard.press("Enter")
        expect(page.locator(".about")).to_contain_text("1,024 tokens")
        expect(page.get_by_label("Context in tokens")).to_have_value("1024")
        page.get_by_label("Context in tokens").fill("999999")
        page.keyboard.press("Enter")
        expect(page.locator("#context-note")).to_contain_text("256 to 2,048 tokens")
        page.get_by_label("Context in tokens").fill("")
        page.keyboard.press("Enter")
        expect(page.locator(".about")).to_contain_text("256 tokens")
        expect(page.get_by_label("Context in tokens")).to_have_attribute("placeholder", "256")


@contextmanager
def serve_in_process(path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", KILLED_SERVER, str(path), str(port)]
    with subprocess.Popen(command, cwd=ROOT) as process:

        def answers() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/health", timeout=60).status_code == 200
            except httpx.TransportError:
                return False

        try:
            wait_until(answers)
            yield process
        finally:
            process.kill()


def test_a_server_that_was_killed_and_is_back(page: Any, tiny_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    with serve_in_process(tiny_path, port) as process:
        page.goto(f"http://127.0.0.1:{port}")
        ask(page, "Count.")
        expect(page.locator(".assistant .blocks")).to_contain_text(" 150 ")
        process.send_signal(signal.SIGKILL)
        expect(page.locator("#notice")).to_contain_text("The server does not answer")
    with serve_in_process(tiny_path, port):
        expect(page.locator("#notice")).to_be_hidden()
        expect(page.locator(".notes")).to_contain_text("The server ended while this was written")
        expect(page.locator(".assistant .blocks")).to_contain_text("1 2 3")
        page.get_by_label("Try again").click()
        expect(page.locator(".assistant .blocks")).to_contain_text("5 6 7")
        page.get_by_label("Stop", exact=True).click()
        expect(page.locator(".notes")).to_have_text("Stopped.")
        expect(page.locator(".branches")).to_contain_text("2 / 2")
