"""Measure the page of `g4 serve` in Chromium: first paint, and its tasks while a long answer comes.

python tests/bench/bench_page.py [--characters 100000]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from playwright.sync_api import sync_playwright

from tests.conftest import CHROMIUM
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.scripted_engine import make_scripted_service
from tests.support.run.server import run_service

SECTION = """## Section {n}

Some **bold** and *slanted* words with `code` in section {n}, which goes on for a line or two, as
the text of an explanation does, before the next paragraph begins.

- a first point about {n}
- a second one, which is longer

| number | square |
|--:|--:|
| {n} | {square} |

```python
def square_{n}(x: int) -> int:
    # a comment
    return x * {n} + len("text")
```

"""
KINDS = {
    "mixed": lambda n: SECTION.format(n=n, square=n * n),
    "one paragraph": lambda n: f"word{n} and another *one* here ",
    "one list": lambda n: f"{n}. item number {n} with `code`\n",
    "one table": lambda n: f"| {n} | {n * n} | text |\n",
    "one block of code": lambda n: f"value_{n} = compute({n}, 'text')  # comment\n",
}
HEADS = {"one table": "| a | b | c |\n|--:|--:|---|\n", "one block of code": "```python\n"}
TRACED = ("devtools.timeline", "toplevel", "disabled-by-default-devtools.timeline")


def write_text(kind: str, n_characters: int) -> str:
    """Return an answer of one kind."""
    parts = [HEADS.get(kind, "")]
    n = size = 0
    while size < n_characters:
        n += 1
        parts.append(KINDS[kind](n))
        size += len(parts[-1])
    return "".join(parts)


def measure_paint(browser: Any, url: str, times: int = 10) -> list[float]:
    """Return the milliseconds to the first contentful paint, each with an empty cache."""
    found = []
    for _ in range(times):
        page = browser.new_page()
        page.goto(url)
        # Not wait_for_function(): it evaluates text, which the page's policy forbids.
        while not page.evaluate("performance.getEntriesByName('first-contentful-paint').length"):
            page.wait_for_timeout(2)
        found.append(
            page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
        page.close()
    return found


def measure_tasks(browser: Any, url: str, kind: str, path: Path) -> list[tuple[float, float]]:
    """Return (processor time, wall-clock time) in milliseconds of each task of the page's thread.

    The tasks are those while an answer of `kind` comes. A frame is late when a task before it is
    long; its processor time says so on a machine with other work too.
    """
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(url)
    page.wait_for_selector("#model option", state="attached")
    browser.start_tracing(page=page, path=path, categories=list(TRACED))
    page.fill("#question", kind)
    page.keyboard.press("Enter")
    page.wait_for_selector(".figures", timeout=300_000)
    page.wait_for_timeout(500)
    browser.stop_tracing()
    page.close()
    events = json.loads(path.read_text())["traceEvents"]
    threads = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    return [
        (event.get("tdur", 0) / 1e3, event["dur"] / 1e3)
        for event in events
        if event["name"].endswith("RunTask") and event.get("dur")
        and (event["pid"], event["tid"]) in threads
    ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--characters", type=int, default=100_000)
    parser.add_argument("--kind", choices=KINDS, help="only this kind of answer")
    options = parser.parse_args()
    n_characters = options.characters

    def script(prompt: str) -> list[str | float]:
        kind = next(kind for kind in reversed(KINDS) if kind in prompt)
        text = write_text(kind, n_characters)
        pieces = [text[at : at + 40] for at in range(0, len(text), 40)]
        return [part for piece in pieces for part in (piece, 0.002)]

    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        os.environ["G4_HOME"] = home
        model = Path(home) / "tiny.gguf"
        model.write_bytes(build_tiny())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        with run_service(make_scripted_service(model, script)) as server:
            for name, path in (("the page", ""), ("one line of text", "/health")):
                paints = measure_paint(browser, server.url + path)
                print(
                    f"first paint of {name:18} median {statistics.median(paints):5.0f} ms, "
                    f"least {min(paints):5.0f} ms"
                )
            print(f"{n_characters:,} characters   longest task: processor      wall clock")
            for kind in [options.kind] if options.kind else KINDS:
                tasks = measure_tasks(browser, server.url, kind, Path(home) / "trace.json")
                cpu, wall = (max(column) for column in zip(*tasks, strict=True))
                print(f"{kind:32}{cpu:10.1f} ms {wall:12.1f} ms")
        browser.close()


if __name__ == "__main__":
    main()
