"""Take pictures of the page of `g4 serve` in a real Chromium, from an answer that is written here.

python -m tools.page_pictures OUT    all states at 360 and 1280 pixels, light and dark
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from g4cli.chat import FoundLoop
from g4cli.operations.serving.options import ServeOptions
from tests.conftest import CHROMIUM
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.scripted_engine import Piece, make_scripted_service
from tests.support.run.server import run_server, run_service

ANSWER = """Both fit into **16 GiB**, but not with the same context:

| model | weights | largest context |
|---|--:|--:|
| `e2b` Q4_0 | 3.2 GiB | 131,072 |
| `12b` Q4_0 | 6.5 GiB | 65,536 |

The KV cache of a layer with a sliding window stops growing after \\(w = 1024\\) tokens:

```python
def kv_bytes(n_ctx: int, window: int | None) -> int:
    n_cells = min(n_ctx, window or n_ctx)   # a window keeps its last cells
    return 2 * n_cells * N_KV_HEADS * HEAD_SIZE * 2
```

1. Try `g4 fit 12b --ctx 64k` first.
2. If it is close, `--kv-type q8_0` halves the cache.
"""
PELICAN = """Here it is:

```svg
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 150">
<rect width="240" height="150" fill="#dff1ff"/>
<rect y="118" width="240" height="32" fill="#bcd9a4"/>
<circle cx="205" cy="28" r="14" fill="#ffd76b"/>
<g fill="none" stroke="#39424e" stroke-width="4"><circle cx="70" cy="108" r="26"/>
<circle cx="168" cy="108" r="26"/>
<path d="M70 108 102 66h46l20 42H116zM102 66l14 42M148 66l-5-12h12"/>
<path d="M96 60h14" stroke-linecap="round"/></g>
<path d="M92 62c-14-8-12-34 14-38 14-2 26 6 30 20l-16 20z" fill="#fff" stroke="#39424e"
 x1="1" x1="2" stroke-width="3"/>
<path d="M118 34c8-12 10-20 20-22 10-1 15 8 10 15-4 6-12 8-14 16" fill="#fff"
 stroke="#39424e" stroke-width="3"/><path d="M148 18c18 2 34 8 46 16-16 4-34 4-46-4z" fill="#f4a24a"
 stroke="#39424e" stroke-width="2"/><circle cx="142" cy="19" r="2.4" fill="#222"/>
<path d="M108 60l8 40 12 4" fill="none" stroke="#f4a24a" stroke-width="4" stroke-linecap="round"/>
</svg>
```
"""


def answer_question(prompt: str) -> list[Piece]:
    """Return the answer to the last question of a prompt."""
    question = prompt.rpartition("<|turn>user")[2]
    if "pelican" in question:
        return _split(PELICAN)
    if "poem" in question:
        return ["The rain, the rain, ", FoundLoop("the rain, ", 3, 24, 48)]
    if "slowly" in question:
        return ["thought:Let me see.", *_split(ANSWER[:120]), 30.0]
    thought = "thought:They ask what fits. I compare weights and the KV cache."
    return [thought, 0.4, *_split(ANSWER)]


def _split(text: str) -> list[Piece]:
    """Return `text` in pieces of 24 characters: some twenty a second, as the engine counts them."""
    return [text[at : at + 24] for at in range(0, len(text), 24)]


def take_pictures(folder: Path) -> None:
    """Write the pictures into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"wide": (1280, 800), "narrow": (360, 740)}
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        os.environ["G4_HOME"] = home
        model = Path(home) / "e2b.gguf"
        model.write_bytes(build_tiny())
        service = make_scripted_service(model, answer_question)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with run_service(service) as server, run_server(ServeOptions()) as empty:
            first = True
            for scheme in ("light", "dark"):
                for name, (width, height) in sizes.items():
                    page = browser.new_page(
                        viewport={"width": width, "height": height},
                        color_scheme=scheme,  # type: ignore[arg-type]
                        reduced_motion="reduce",
                    )

                    def save(
                        state: str, page: Any = page, name: str = name, scheme: str = scheme
                    ) -> None:
                        label = f"{state}-{name}-{scheme}"
                        page.mouse.move(1, 300)  # what is below the mouse looks different
                        page.wait_for_timeout(400)
                        page.screenshot(path=folder / f"page-{label}.png")

                    page.goto(empty.url)
                    page.wait_for_selector(".greeting .primary")
                    save("first-visit")
                    page.goto(server.url)
                    page.wait_for_selector("#model option", state="attached")
                    _visit_states(page, save, first=first, is_narrow=name == "narrow")
                    first = False
                    page.close()
        browser.close()


def _visit_states(page: Any, save: Callable[[str], None], *, first: bool, is_narrow: bool) -> None:
    save("empty")
    if first:
        _ask(page, "Which Gemma 4 fits into 16 GiB?", ".figures >> nth=0")
        page.click("#new-chat")
        _ask(page, "Draw a pelican on a bicycle", ".drawing iframe")
    else:
        _open(page, "Which Gemma 4", is_narrow=is_narrow)
    if first:
        _open(page, "Which Gemma 4", is_narrow=is_narrow)
    page.wait_for_selector(".figures")
    save("chat")
    page.locator(".thought summary").first.click()
    page.locator("#scroll").evaluate("element => (element.scrollTop = 0)")
    save("thought")
    _open(page, "Draw a pelican", is_narrow=is_narrow)
    page.wait_for_selector(".drawing iframe")
    page.locator("#scroll").evaluate("element => (element.scrollTop = 0)")
    save("drawing")
    page.get_by_label("Delete this and what follows").first.click()
    save("deletion")
    page.keyboard.press("Escape")
    page.click("#toggle-settings")
    save("settings")
    page.locator("#settings").evaluate("element => (element.scrollTop = 9999)")
    save("context")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+/")
    save("keyboard")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Shift+O")
    _ask(page, "Write a poem about rain", ".note.bad")
    save("loop")
    _ask(page, "Explain it slowly", "#stop")
    page.wait_for_selector("[data-turn]:last-child .block")
    save("writing")
    page.keyboard.press("Escape")
    page.wait_for_selector("#send")
    if is_narrow:
        page.click("#open-sidebar")
        save("sidebar")
    page.click("#show-models")
    page.wait_for_selector(".memory-bar")
    page.wait_for_timeout(6000)
    save("models")
    page.keyboard.press("Escape")


def _ask(page: Any, text: str, until: str) -> None:
    page.fill("#question", text)
    page.keyboard.press("Enter")
    page.wait_for_selector(until)


def _open(page: Any, title: str, *, is_narrow: bool) -> None:
    if is_narrow:
        page.click("#open-sidebar")
    page.locator(".list .item", has_text=title).click()


if __name__ == "__main__":
    take_pictures(Path(sys.argv[1]))
