"""Drawings and hostile text in answers: the picture is shown, and nothing of it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.e2e.page.test_conversation import ask
from tests.support.run.server import RunningServer

pytestmark = [pytest.mark.requires_chromium, pytest.mark.slow]
ServeScript = Callable[..., RunningServer]
# With the fault that ended the drawing this program began with: x1 twice.
PELICAN = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 50">'
    '<rect width="100" height="50" fill="#ff0000"/>'
    '<line x1="1" y1="2" x1="3" x2="40" y2="30" stroke="black"/></svg>'
)
HOSTILE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10" onload="attack()">
<script>attack()</script><rect width="10" height="10" onclick="attack()" fill="green"/>
<foreignObject width="10" height="10"><body xmlns="http://www.w3.org/1999/xhtml"
onload="attack()"><form action="https://evil.example"><input/></form></body></foreignObject>
<a href="javascript:attack()"><text y="9">x</text></a>
<image href="https://evil.example/x.png" width="1" height="1"/></svg>"""
TEXT = """<script>attack()</script> <img src=x onerror=attack()>
<form action=https://evil.example><input name=key></form> [a](javascript:attack())
[b](data:text/html,<script>attack()</script>) <iframe src=javascript:attack()></iframe>

"""


def test_a_drawing_is_shown_repaired_and_can_be_saved(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(lambda _: ["A pelican:\n\n```svg\n", PELICAN, "\n```\nThere it is."])
    page.goto(server.url)
    ask(page, "Draw a pelican.")
    expect(page.locator(".drawing summary")).to_have_text("1 fault repaired")
    frame = page.locator(".drawing iframe")
    assert frame.get_attribute("sandbox") == ""
    box = frame.bounding_box()
    assert round(box["width"] / box["height"], 1) == 2
    expect(page.locator(".drawing iframe").first).to_be_attached()
    picture = page.frame_locator(".drawing iframe").locator("img")
    expect(picture).to_be_visible()
    figure, source = page.locator("figure").bounding_box(), page.locator(".source").bounding_box()
    assert source["x"] >= figure["x"] + figure["width"]  # beside the picture
    assert source["x"] + source["width"] <= 1280
    assert source["y"] == figure["y"]
    page.get_by_text("Hide the source").click()
    assert page.locator(".block pre").is_hidden()
    page.get_by_text("Show the source").click()
    assert page.locator(".block pre").is_visible()
    page.get_by_label("Copy the code").click()
    assert page.evaluate("navigator.clipboard.readText()") == PELICAN
    page.set_viewport_size({"width": 360, "height": 800})
    below, frame = page.locator(".source").bounding_box(), frame.bounding_box()
    assert below["y"] > frame["y"] + frame["height"]
    for kind, magic in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        with page.expect_download() as download:
            page.get_by_text(f"Save {kind}").click()
        with open(download.value.path(), "rb") as file:
            assert file.read(4) == magic
    page.reload()
    expect(page.locator(".drawing summary")).to_have_text("1 fault repaired")
    expect(page.locator(".source")).to_be_hidden()  # on narrow screens until it is asked for


def test_a_drawing_without_a_fence_and_without_an_end(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(lambda _: ["Here:\n", PELICAN.removesuffix("</svg>")])
    page.goto(server.url)
    ask(page, "Draw a pelican.")
    expect(page.locator(".drawing summary")).to_contain_text("repaired")
    expect(page.frame_locator(".drawing iframe").locator("img")).to_be_visible()


def test_a_drawing_of_many_lines_is_one_picture_with_one_source(
    page: Any, serve_script: ServeScript
) -> None:
    lines = "\n".join(f'<circle cx="{n % 90}" cy="{n % 40}" r="2"/>' for n in range(300))
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 90 40">\n{lines}\n</svg>'
    server = serve_script(lambda _: [f"```svg\n{drawing}\n```\nThere it is."])
    page.goto(server.url)
    ask(page, "Draw circles.")
    expect(page.locator(".drawing iframe")).to_have_count(1)
    assert page.locator(".block pre").count() > 1
    assert page.locator(".source pre").count() == page.locator(".block pre").count()
    page.get_by_label("Copy the code").click()
    assert page.evaluate("navigator.clipboard.readText()") == drawing
    boxes = [page.locator(name).bounding_box() for name in ("figure", ".source")]
    assert abs(boxes[0]["height"] - boxes[1]["height"]) < 20  # the source scrolls by itself


def test_nothing_of_a_hostile_answer_runs(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(lambda _: [TEXT, "```svg\n", HOSTILE, "\n```\n", TEXT])
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.add_init_script("window.attack = () => { window.attacked = true }")
    page.goto(server.url)
    ask(page, "Attack")
    expect(page.locator(".drawing iframe")).to_be_visible()
    expect(page.frame_locator(".drawing iframe").locator("img")).to_be_visible()
    page.frame_locator(".drawing iframe").locator("img").click()
    assert page.evaluate("window.attacked") is None
    blocks = page.locator(".blocks")
    for selector in (
        "script",
        "form",
        "input",
        "img",
        "a[href^='javascript:']",
        "a[href^='data:']",
    ):
        assert blocks.locator(selector).count() == 0, selector
    assert blocks.locator("iframe").count() == 1
    assert [url for url in requests if not url.startswith((server.url, "data:", "blob:"))] == []
    expect(blocks).to_contain_text("<script>attack()</script>")


def test_an_opened_drawing_runs_nothing_either(page: Any, serve_script: ServeScript) -> None:
    server = serve_script(lambda _: ["```svg\n", HOSTILE, "\n```"])
    page.goto(server.url)
    ask(page, "Attack")
    address = page.locator(".drawing iframe").get_attribute("src")
    page.goto(f"{server.url}{address}")
    assert page.evaluate("document.querySelectorAll('script').length") == 0
    assert page.locator("img").get_attribute("src").startswith("data:image/svg+xml")
