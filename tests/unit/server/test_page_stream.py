"""Markdown that arrives bit by bit: the blocks on the page are those of the whole text."""

from __future__ import annotations

import html
import random
import re

import pytest

from g4cli.server.page_routes.markdown import render_code, render_markdown
from g4cli.server.page_routes.stream import CUT_CHARS, MarkdownStream, render_blocks

TEXT = '''# Title
Some *text* and a drawing:
<svg viewBox="0 0 1 1">

<rect/>
</svg>
after it

- a
- b

  more of b
- c

1. x
2. y
   ```python
   a = 1
   ```

```python
x = """
a < b
"""
def f(): pass
```
| a | b |
|---|--:|
| 1 | 2 |

> a quote
> of two lines

the *end*.'''


class Page:
    """What a browser has after some changes."""

    def __init__(self) -> None:
        self.blocks: dict[int, str] = {}
        self.n_bytes = 0

    def apply(self, stream: MarkdownStream, after: int) -> int:
        """Take the changes after the number `after`; return what is seen now."""
        for change in stream.list_changes(after):
            number = change["block"]
            if "html" in change:
                assert number <= len(self.blocks), "a block was left out"
                self.blocks[number] = change["html"]
            else:
                text = html.escape(change["text"], quote=False)
                self.blocks[number] = self.blocks[number].replace("</code>", f"{text}</code>")
            self.n_bytes += len(str(change))
        return stream.version


def play(text: str, seed: int, most: int = 7) -> Page:
    """Return the page after `text` came in pieces of random lengths, shown at random times."""
    chance = random.Random(seed)
    stream, page, seen, at = MarkdownStream(), Page(), 0, 0
    while at < len(text):
        size = chance.randint(1, most)
        stream.feed(text[at : at + size])
        at += size
        if chance.random() < 0.4:
            seen = page.apply(stream, seen)
    stream.finish()
    page.apply(stream, seen)
    return page


@pytest.mark.parametrize("seed", range(8))
def test_blocks_do_not_depend_on_how_the_text_arrives(seed: int) -> None:
    whole = {change["block"]: change["html"] for change in render_blocks(TEXT)}
    assert play(TEXT, seed).blocks == whole
    assert len(whole) == 10


def test_who_was_away_gets_what_changed_since() -> None:
    stream = MarkdownStream()
    stream.feed("one\n\ntwo\n\n```\ncode\n")
    early = Page()
    seen = early.apply(stream, 0)
    stream.feed("more\n```\nthree")
    late = Page()
    early.apply(stream, seen)
    late.apply(stream, 0)
    assert early.blocks == late.blocks
    assert [change["block"] for change in stream.list_changes(seen)] == [2, 3]
    assert stream.list_changes(stream.version) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a paragraph", "word " * 4000),
        ("no space at all", "x" * 20_000),
        ("a list", "".join(f"{n}. item\n" for n in range(1, 2000))),
        ("a table", "|a|b|\n|-|-|\n" + "".join(f"|{n}|b|\n" for n in range(2000))),
        ("code", "```python\n" + "def f(x):\n    return x\n" * 800),
        ("a quote", "> words of others\n" * 1000),
        ("nested a thousand times", "> " * 2000 + "x\n\n" + "more " * 3000),
        ("an unclosed drawing", "<svg>\n" + "<rect x='1'/>\n" * 1200),
    ],
)
def test_no_block_grows_with_the_answer(name: str, text: str) -> None:
    page = play(text, 1, most=600)
    assert max(map(len, page.blocks.values())) < 12 * CUT_CHARS, name
    shown = html.unescape(re.sub("<[^>]*>", "", "".join(page.blocks.values())))
    # Every letter comes once; a table has its head in each part.
    letters = re.sub(r"[^a-zA-Z]", "", shown)
    assert len(letters) >= len(re.sub(r"[^a-zA-Z]", "", text.replace("python", ""))), name
    assert page.n_bytes < 120 * len(text), f"{name}: the same is not sent again and again"


@pytest.mark.slow
def test_a_list_that_was_cut_goes_on_counting() -> None:
    page = play("".join(f"{n}. item\n" for n in range(1, 1000)), 1, most=600)
    starts = [int(n) for block in page.blocks.values() for n in re.findall(r'start="(\d+)"', block)]
    items = [block.count("<li>") for block in page.blocks.values()]
    assert sum(items) == 999
    assert starts == [1 + sum(items[: index + 1]) for index in range(len(items) - 1)]


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        '<img src=x onerror="alert(1)">',
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "[x](vbscript:x)",
        "![x](javascript:alert(1))",
        "[x](/page/api/start)",
        "[x](//evil.example/)",
        "<https://evil.example/\"onmouseover='alert(1)'>",
        "<form action=//evil.example><input name=key></form>",
        "<svg><foreignObject><body onload=alert(1)></foreignObject></svg>",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        "```html\n<script>alert(1)</script>\n```",
        '```x"onload="alert(1)\ncode\n```',
        "| a |\n|---|\n| <script>alert(1)</script> |",
        '[x](https://e.example "a\\"onclick=alert(1)")',
        "<style>*{display:none}</style>",
    ],
)
def test_nothing_of_a_hostile_answer_becomes_active(text: str) -> None:
    blocks = "".join(change["html"] for change in render_blocks(text))
    tags = re.findall(r"<(\w+)((?:\s+[\w-]+=\"[^\"]*\")*)\s*>", blocks)
    assert {tag for tag, _ in tags} <= {
        "p", "a", "pre", "code", "span", "div", "table", "thead", "tbody", "tr", "th", "td", "br",
    }  # fmt: skip
    for _, attributes in tags:
        for name, value in re.findall(r"([\w-]+)=\"([^\"]*)\"", attributes):
            assert name in ("href", "title", "class", "rel", "target", "tabindex", "data-language")
            if name == "href":
                assert value.startswith(("https://e", "http://", "mailto:"))


def test_tables_formulas_and_code() -> None:
    table = render_markdown("|a|b|\n|:-:|--:|\n|1|2|")
    assert '<th class="center">a</th>' in table
    assert '<td class="right">2</td>' in table
    assert r"\(x_1^2 * y\)" in render_markdown(r"so \(x_1^2 * y\) and")
    assert '<span class="k">def</span>' in render_code("def f(): pass", "python")
    assert render_code("a <b>", "nonsense") == "a &lt;b&gt;"


def test_invisible_characters_are_shown() -> None:
    assert "\\u202e" in render_markdown("evil\u202etxt")


def test_a_fence_within_code_does_not_end_it() -> None:
    (block,) = render_blocks("```markdown\n- a\n    ```sh\n    ls\n    ```\n\n\t```\n- b\n   ```\n")
    assert '<span class="k">-</span> b</code>' in block["html"]


@pytest.mark.parametrize("text", ["```\na", "```\na\n", "```\na\n```", "```\na\n```\n"])
def test_code_that_is_not_closed_ends_with_its_last_line(text: str) -> None:
    (block,) = render_blocks(text)
    assert "<code>a</code>" in block["html"]
