"""The page for everybody: axe-core's rules, the keyboard alone, narrow screens, large text."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from g4cli.chat import FoundLoop
from g4cli.operations.serving.options import ServeOptions
from tests.conftest import AXE, TSC
from tests.e2e.page.test_conversation import ask
from tests.support.fakes.scripted_engine import Piece
from tests.support.paths import ROOT
from tests.support.run.server import RunningServer, run_server

pytestmark = pytest.mark.slow
browser_test = pytest.mark.requires_chromium
ServeScript = Callable[..., RunningServer]
ANSWER = """# A title

text with `code` and a [link](https://example.org)

| a | b |
|---|--:|
| 1 | 2 |

```python
def f(x):  # a comment
    return "text", 1, None
```

```svg
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="5" height="9"
x="1" x="0"/></svg>
```
"""


def answer(prompt: str) -> list[Piece]:
    question = prompt.rpartition("<|turn>user")[2]
    if "loop" in question:
        return ["again ", FoundLoop("again ", 2, 0, 40)]
    if "slowly" in question:
        return ["One moment: ", 120.0]
    return ["thought:Hm.", ANSWER]


def serve_answer(serve_script: ServeScript) -> RunningServer:
    return serve_script(answer)


@browser_test
@pytest.mark.requires_axe
@pytest.mark.parametrize(
    ("scheme", "width"),
    [("light", 1280), ("dark", 360), ("light", 360), ("dark", 1280)],
)
def test_axe_finds_nothing_serious(
    browser: Any, serve_script: ServeScript, scheme: str, width: int
) -> None:
    server = serve_answer(serve_script)
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        bypass_csp=True,  # axe is a script of another origin
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.goto(server.url)
    page.evaluate(AXE.read_text(encoding="utf-8"))

    def check(state: str) -> None:
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        serious = [
            f"{state}: {rule['id']}: {node['target']} {node['failureSummary']}"
            for rule in found["violations"]
            if rule["impact"] in ("serious", "critical")
            for node in rule["nodes"]
        ]
        assert not serious, "\n".join(serious)

    check("empty")
    ask(page, "Hello")
    expect(page.locator(".figures")).to_be_visible()
    expect(page.locator(".drawing summary")).to_have_text("1 fault repaired")
    if page.get_by_text("Show the source").count():
        page.get_by_text("Show the source").click()
    page.locator(".thought summary").click()
    page.locator(".drawing summary").click()
    check("answer")
    page.get_by_label("Edit and ask again").click()
    check("edit")
    page.keyboard.press("Escape")
    page.get_by_label("Delete this and what follows").last.click()
    check("deletion")
    page.keyboard.press("Escape")
    ask(page, "loop")
    expect(page.locator(".note.bad")).to_be_visible()
    check("loop")
    ask(page, "slowly")
    expect(page.locator(".assistant .blocks").last).to_contain_text("One moment")
    check("writing")
    page.keyboard.press("Escape")
    page.click("#toggle-settings")
    check("settings")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+/")
    check("keyboard")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+k")
    page.keyboard.type("nothing like this")
    expect(page.locator("#list-note")).to_be_visible()
    check("search")
    page.locator("#show-models").dispatch_event("click")
    expect(page.locator(".memory-bar").first).to_be_visible()
    check("models")
    page.keyboard.press("Escape")
    page.route("**/page/api/conversations**", lambda route: route.abort())
    page.keyboard.press("Control+k")
    page.fill("#search", "")
    expect(page.locator("#notice")).to_be_visible()
    check("no server")
    context.close()


@browser_test
@pytest.mark.requires_axe
def test_axe_finds_nothing_serious_on_the_first_visit(browser: Any) -> None:
    with run_server(ServeOptions()) as server:
        context = browser.new_context(bypass_csp=True)
        page = context.new_page()
        page.goto(server.url)
        expect(page.get_by_role("button", name="Choose a model")).to_be_visible()
        page.evaluate(AXE.read_text(encoding="utf-8"))
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert [rule["id"] for rule in found if rule["impact"] in ("serious", "critical")] == []
        context.close()


@browser_test
def test_the_keyboard_does_everything(page: Any, serve_script: ServeScript) -> None:
    server = serve_answer(serve_script)
    page.goto(server.url)
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    expect(page.locator(".figures")).to_be_visible()
    assert page.locator(".bubble").inner_text() == "first line\nsecond line"
    expect(page.locator("#question")).to_be_focused()

    def press_until(label: str, key: str) -> None:
        for _ in range(60):
            name = page.evaluate(
                "document.activeElement.getAttribute('aria-label') || "
                "document.activeElement.textContent.trim()"
            )
            if name == label:
                outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"{label}: the focus is not visible"
                page.keyboard.press("Enter")
                return
            page.keyboard.press(key)
        raise AssertionError(f"the keyboard does not reach {label}")

    press_until("Try again", "Shift+Tab")
    expect(page.locator(".branches")).to_contain_text("2 / 2")
    expect(page.locator(".figures")).to_be_visible()
    page.focus("#question")
    press_until("Show the version before", "Shift+Tab")
    expect(page.locator(".branches")).to_contain_text("1 / 2")
    page.keyboard.press("Control+k")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.press("Control+Shift+O")
    expect(page.locator(".greeting")).to_be_visible()
    expect(page.locator("#question")).to_be_focused()
    page.keyboard.press("Control+,")
    expect(page.locator("#system")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#settings")).to_be_hidden()
    expect(page.locator("#toggle-settings")).to_be_focused()


@browser_test
@pytest.mark.parametrize(
    ("width", "height", "zoom"), [(360, 640, 1), (640, 400, 2)], ids=["360 px", "200 %"]
)
def test_nothing_is_cut_off_on_small_screens(
    browser: Any, serve_script: ServeScript, width: int, height: int, zoom: int
) -> None:
    """A window of 1280 by 800 at 200 % is one of 640 by 400 with two dots for each pixel."""
    server = serve_answer(serve_script)
    context = browser.new_context(
        viewport={"width": width, "height": height}, device_scale_factor=zoom
    )
    page = context.new_page()
    page.goto(server.url)

    def check() -> None:
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, "the page scrolls sideways"
        for selector in ("#question", "#toggle-settings", "#open-sidebar"):
            box = page.locator(selector).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
            assert box["y"] + box["height"] <= height

    check()
    ask(page, "Hello")
    expect(page.locator(".figures")).to_be_visible()
    check()
    page.click("#open-sidebar")
    expect(page.locator("#new-chat")).to_be_visible()
    page.locator(".list .item").click()
    page.click("#toggle-settings")
    expect(page.locator("#system")).to_be_visible()
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("#settings")).to_be_hidden()
    context.close()


@browser_test
def test_without_javascript_the_page_says_so(browser: Any, serve_script: ServeScript) -> None:
    server = serve_answer(serve_script)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator(".noscript")).to_contain_text("needs JavaScript")
    context.close()


@pytest.mark.requires_tsc
def test_the_types_of_the_scripts_are_right() -> None:
    files = sorted((ROOT / "g4cli" / "server" / "page").glob("*.js"))
    options = "--allowJs --checkJs --noEmit --strict --target es2023 --module esnext"
    lib = "es2023,dom,dom.iterable,dom.asynciterable"
    done = subprocess.run(
        ["node", str(TSC), *options.split(), "--lib", lib, *map(str, files)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
