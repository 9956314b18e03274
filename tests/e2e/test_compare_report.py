"""The report of g4 compare in a real browser: every drawing is shown, and nothing is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.cli.views.compare import write_report
from tests.conftest import CHROMIUM
from tests.support.builders.comparison import EVIL, make_document
from tests.support.builders.svg_defects import good_drawings

pytestmark = [pytest.mark.slow, pytest.mark.requires_chromium]


def test_chromium_shows_every_drawing_and_runs_and_loads_nothing(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    path = tmp_path / "report.html"
    document = make_document(EVIL)
    (prompt,) = document["prompts"]
    answer = prompt["answers"][1]
    drawings = [text for _, text in good_drawings()]
    prompt["answers"] = [
        answer | {"drawing": answer["drawing"] | {"svg": drawing}} for drawing in drawings
    ]
    write_report(document, path)
    requests: list[str] = []
    messages: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("dialog", lambda dialog: messages.append(dialog.message))
        tab.goto(path.as_uri())
        sizes = tab.eval_on_selector_all("img", "images => images.map(i => i.naturalWidth)")
        width = tab.evaluate("document.documentElement.scrollWidth - innerWidth")
        styled = tab.eval_on_selector("main", "main => getComputedStyle(main).maxWidth")
        browser.close()
    assert len(sizes) == len(drawings)
    assert all(sizes)
    assert messages == []
    assert [url for url in requests if not url.startswith(("file:", "data:image/svg"))] == []
    assert width <= 0, "the page does not scroll sideways"
    assert styled == "1280px"
