"""Chromium's view of drawings: does it open them as SVG files, and which pixels does it show?"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

# Each drawing is an image of its own, which browsers parse as strictly as a file.
_SCRIPT: Final = """
async ([drawings, side]) => Promise.all(drawings.map(async (data) => {
  const image = new Image();
  const opened = new Promise((done) => {
    image.onload = () => done(true);
    image.onerror = () => done(false);
  });
  image.src = "data:image/svg+xml;base64," + data;
  if (!await opened) return null;
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(image, 0, 0, side, side);
  const pixels = context.getImageData(0, 0, side, side).data;
  const hash = await crypto.subtle.digest("SHA-256", pixels);
  return Array.from(new Uint8Array(hash)).map((b) => b.toString(16).padStart(2, "0")).join("");
}))
"""


class BrowserJudge:
    """A tab of Chromium that opens drawings."""

    def __init__(self, tab: Any) -> None:
        self._tab = tab

    def hash_pictures(self, drawings: Sequence[str], side: int = 96) -> list[str | None]:
        """Return the sha256 of the pixels of each drawing, None for one that Chromium refuses."""
        encoded = [base64.b64encode(text.encode("utf-8", "replace")).decode() for text in drawings]
        hashes: list[str | None] = self._tab.evaluate(_SCRIPT, [encoded, side])
        return hashes


@contextmanager
def open_browser(executable: str) -> Iterator[BrowserJudge]:
    """Yield a judge; Chromium ends with the block. No page of it reaches the network."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"]
        )
        context = chromium.new_context(offline=True)
        tab = context.new_page()
        tab.set_default_timeout(120_000)
        # crypto.subtle needs a secure context.
        tab.route(
            "**/*", lambda route: route.fulfill(body="<!DOCTYPE html>", content_type="text/html")
        )
        tab.goto("https://localhost/")
        try:
            yield BrowserJudge(tab)
        finally:
            chromium.close()
