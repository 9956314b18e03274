"""Models in the page: how they fit, load, unload, and pulls that go on without the page."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from g4cli.operations.page import pulls
from g4cli.operations.serving.options import ServeOptions
from tests.e2e.page.test_conversation import ask
from tests.support.run.server import RunningServer, run_server, wait_until

pytestmark = [pytest.mark.requires_chromium, pytest.mark.slow]


def test_a_pulled_model_is_loaded_and_asked(page: Any) -> None:
    with run_server(ServeOptions(ctx="1024", threads=1)) as server:
        page.goto(server.url)
        expect(page.locator("#model")).to_contain_text("No model yet")
        page.get_by_role("button", name="Models").click()
        tiny = page.get_by_role("region", name="tiny")
        expect(tiny.locator(".memory-bar")).to_be_visible()
        expect(tiny).to_contain_text("fits with")
        expect(tiny).to_contain_text("largest context 2,048")
        tiny.get_by_role("button", name="Pull tiny").click()
        here = page.get_by_role("region", name="tiny:")
        expect(here).to_contain_text("not loaded")
        here.get_by_role("button", name="load").click()
        expect(here).to_contain_text("1,024 tokens each")
        here.get_by_role("button", name="unload").click()
        expect(here).to_contain_text("not loaded")
        page.keyboard.press("Escape")
        ask(page, "What is Q4_0?")
        expect(page.locator(".assistant .blocks")).to_contain_text("4.5 bits per weight")


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
        return int(httpx.get(f"{server.url}/page/api/pulls").json()["pulls"][0]["parts"][0]["done"])

    before = count_done()
    wait_until(lambda: count_done() > before)
    page.goto(server.url)
    page.get_by_role("button", name="Models").click()
    expect(page.locator("progress")).to_be_visible()
    page.get_by_role("button", name="Stop the pull").click()
    expect(page.locator(".pull")).to_contain_text(["Stopped; the next pull goes on"])
    goes_on = False
