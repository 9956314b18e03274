"""Models in the page: how they fit, load, unload, and pulls that go on without the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from g4cli.operations.chat.request import ChatRequest
from g4cli.operations.page import pulls
from g4cli.operations.serving.options import ServeOptions
from tests.e2e.page.test_conversation import ask
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.hub import FakeHub, FakeRepo, running
from tests.support.run.server import RunningServer, run_server, wait_until

pytestmark = [pytest.mark.requires_chromium, pytest.mark.slow]


def test_a_pulled_model_is_loaded_and_asked(page: Any) -> None:
    with run_server(ServeOptions(chat=ChatRequest(ctx="1024", threads=1))) as server:
        page.goto(server.url)
        expect(page.locator("#model")).to_contain_text("No model yet")
        page.get_by_role("button", name="Choose a model").click()
        tiny = page.get_by_role("region", name="tiny")
        expect(tiny.locator(".memory-bar")).to_be_visible()
        expect(tiny).to_contain_text("fits with")
        expect(tiny).to_contain_text("largest context 2,048")
        tiny.get_by_role("button", name="Pull tiny").click()
        here = page.get_by_role("region", name="tiny:")
        expect(here).to_contain_text("not loaded")
        here.get_by_role("button", name="load").click()
        expect(here).to_contain_text("loaded, context 1,024")
        here.get_by_role("button", name="unload").click()
        expect(here).to_contain_text("not loaded")
        page.keyboard.press("Escape")
        expect(page.locator(".welcome")).to_have_text("What would you like to know?")
        ask(page, "What is Q4_0?")
        expect(page.locator(".assistant .blocks")).to_contain_text("4.5 bits per weight")


def test_a_pull_from_a_hub_goes_on_when_the_page_is_closed(
    page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build_tiny()
    files = {"gemma-4-E2B_q4_0-it.gguf": model}
    hub = FakeHub(
        repos={
            "google/gemma-4-E2B-it-qat-q4_0-gguf": FakeRepo(lfs=files),
            "ggml-org/gemma-4-E2B-it-GGUF": FakeRepo(plain={"README.md": b"card"}),
        }
    )
    hub.rate = len(model) / 4
    with running(hub), run_server(ServeOptions(chat=ChatRequest(ctx="1024", threads=1))) as server:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        page.goto(server.url)
        page.get_by_role("button", name="Models").click()
        page.get_by_role("button", name="Pull e2b").click()
        pulling = page.get_by_role("region", name="Gemma 4 E2B").locator(".pull")
        expect(pulling).to_contain_text(" of 7.5 MiB")
        sent = hub.sent_bytes
        assert sent < len(model)
        page.goto("about:blank")
        wait_until(lambda: hub.sent_bytes >= len(model))
        page.goto(server.url)
        page.get_by_role("button", name="Models").click()
        here = page.get_by_role("region", name="e2b:")
        expect(here).to_contain_text("not loaded")
        expect(page.get_by_role("button", name="Pulled e2b")).to_be_disabled()
        page.keyboard.press("Escape")
        ask(page, "What is Q4_0?")
        expect(page.locator(".assistant .blocks")).to_contain_text("4.5 bits per weight")


def test_a_pull_that_fails_says_why(
    page: Any, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(FakeHub()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        page.goto(server.url)
        page.get_by_role("button", name="Models").click()
        page.get_by_role("button", name="Pull e2b").click()
        note = page.get_by_role("region", name="Gemma 4 E2B").locator(".note.bad")
        expect(note).to_contain_text("google/gemma-4-E2B")
        expect(page.get_by_role("button", name="Pull e2b")).to_be_enabled()


def test_a_model_that_answers_is_unloaded_after_that(
    page: Any, serve_script: Callable[..., RunningServer]
) -> None:
    server = serve_script(lambda _: ["x", 60.0])
    page.goto(server.url)
    ask(page, "Hi")
    expect(page.locator(".assistant .blocks")).to_have_text("x")
    page.get_by_role("button", name="Models").click()
    here = page.get_by_role("region", name="tiny", exact=True)
    here.get_by_role("button", name="unload").click()
    note = page.get_by_role("dialog").get_by_role("status")
    expect(note).to_have_text("tiny answers now, and is unloaded after that.")
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_label("Stop", exact=True).click()
    expect(other.locator(".notes")).to_have_text("Stopped.")
    other.close()
    expect(here).to_contain_text("not loaded")
    expect(note).to_have_text("")
    expect(page.locator("#announcer")).to_have_text("tiny: unloaded")


def test_a_pull_goes_on_when_the_page_is_closed(
    page: Any, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = True

    def pull_slowly(_name: str, _options: Any, job: Any) -> None:
        with job.progress("pull", unit="files") as progress:
            done = 0
            while goes_on:
                done += 1
                progress(done, 1 << 30, "model.gguf")
                pulls.threading.Event().wait(0.01)

    monkeypatch.setattr(pulls, "pull_model", pull_slowly)
    page.goto(server.url)
    page.get_by_role("button", name="Models").click()
    page.get_by_role("button", name="Pull e2b").click()
    expect(page.locator("progress")).to_be_visible()
    expect(page.locator(".pull")).to_contain_text(["of 1.0 GiB"])
    page.goto("about:blank")

    def count_done() -> int:
        return int(
            httpx.get(f"{server.url}/page/api/pulls", timeout=60).json()["pulls"][0]["parts"][0][
                "done"
            ]
        )

    before = count_done()
    wait_until(lambda: count_done() > before)
    page.goto(server.url)
    page.get_by_role("button", name="Models").click()
    expect(page.locator("progress")).to_be_visible()
    page.get_by_role("button", name="Stop the pull").click()
    expect(page.locator(".pull")).to_contain_text(["Stopped; the next pull goes on"])
    goes_on = False
