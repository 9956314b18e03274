"""A real Chromium, driven by Playwright, and a server with `tiny` or with a scripted model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CHROMIUM
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.scripted_engine import make_scripted_service
from tests.support.run.server import RunningServer, run_server, run_service, tiny_options


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a Chromium whose microphone is a beep of its own."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=30_000)  # of a machine with much else to do
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", *flags]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the model `tiny` as a file."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    path.write_bytes(build_tiny())
    return path


@pytest.fixture
def server(tiny_path: Path) -> Iterator[RunningServer]:
    """Return a server of `tiny`."""
    with run_server(tiny_options(tiny_path)) as running:
        yield running


@pytest.fixture
def serve_script(tiny_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Return what starts a server whose model answers by a script."""
    with ExitStack() as servers:

        def start(
            script: Callable[[str], list[str | float]], *args: Any, **options: Any
        ) -> RunningServer:
            service = make_scripted_service(tiny_path, script)
            return servers.enter_context(run_service(service, *args, **options))

        yield start


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """Return an empty tab; an error of the page or a rule of its policy that was broken fails."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.grant_permissions(["clipboard-read", "clipboard-write", "microphone"])
    context.set_default_timeout(30_000)
    tab = context.new_page()
    faults: list[str] = []
    watch_faults(tab, faults)
    yield tab
    context.close()
    assert not faults


def watch_faults(tab: Any, faults: list[str]) -> None:
    """Collect errors of scripts and refusals of the content security policy."""
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on(
        "console",
        lambda message: faults.append(message.text) if "Security Policy" in message.text else None,
    )
