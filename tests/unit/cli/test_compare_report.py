"""The report of a comparison: hostile text stays text, drawings stay pictures, graphs stay SVG."""

from __future__ import annotations

import base64
import hashlib
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import html5lib
import pytest

from g4cli.cli.views.compare import require_report_target
from g4cli.cli.views.compare_chart import draw_quality, draw_shares, find_ticks
from g4cli.cli.views.compare_figures import share_text
from g4cli.cli.views.compare_html import make_html
from g4cli.cli.views.compare_markdown import make_markdown
from g4cli.core.errors import UsageError

EVIL = '"><script>alert(1)</script><img src=http://e.example/x onerror=alert(1)>\u202e</pre></p>'
DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><rect width="4" height="4"/></svg>'
)


def share(count: int, total: int) -> dict[str, Any]:
    return {"count": count, "total": total, "share": count / total, "low": 0.1, "high": 0.9}


def make_document(text: str) -> dict[str, Any]:
    """Return a comparison in which every text that is not g4's own is `text`."""
    finding = {
        "rule": text, "kind": "xml", "line": 1, "column": 1, "message": text,
        "repaired": True, "repair": text,
    }  # fmt: skip
    drawing = {
        "works": True, "flawless": False, "repaired": True, "svg": DRAWING + text,
        "findings": [finding], "stages": [{"name": "found", "passed": True, "detail": ""}],
    }  # fmt: skip
    answer = {
        "model": text, "sample": 0, "seed": 1, "text": text, "thought": text,
        "finish_reason": "stop", "prompt_tokens": 1, "reused_tokens": 0, "completion_tokens": 2,
        "first_s": 0.1, "total_s": 0.2, "prompt_tps": 1.0, "decode_tps": 2.0, "loop": None,
        "correct": True, "valid": False, "problem": text, "drawing": None, "at": 0,
    }  # fmt: skip
    model = {
        "label": text,
        "problem": text,
        "settings": {"system": text},
        "facts": {"identity": text, "served_as": text, "file_type": text, "sampling": {"a": text}},
        "summary": {
            "asked": 2,
            "answered": 2,
            "shares": {"correct": share(1, 2)},
            "faults": [{"rule": text, "kind": text, "message": text, "drawings": 1, "repaired": 1}],
            "first_s": 0.1,
            "decode_tps": 2.0,
            "completion_tokens": 2.0,
        },
        "quality": {
            "bytes": 1 << 30, "perplexity": 5.0, "perplexity_error": 0.1, "pp128_tps": 9.0,
            "tg32_tps": 3.0, "peak_bytes": 1 << 30,
        },
        "wins": share(1, 2) | {"ties": 1},
    }  # fmt: skip
    return {
        "run": {
            "command": text, "samples": 1, "complete": False, "results": text, "written_at": 0,
            "g4": "0", "llama_cpp_python": "0", "machine": text, "judge": text, "text": text,
        },
        "models": [model],
        "prompts": [
            {"id": text, "kind": "svg", "prompt": text, "expected": text,
             "answers": [answer, answer | {"drawing": drawing}]},
        ],
        "opinions": [
            {"prompt": text, "sample": 0, "a": text, "b": text, "first": text, "second": text,
             "winner": text},
        ],
    }  # fmt: skip


def list_elements(page: str) -> list[tuple[str, dict[str, str]]]:
    """Return the elements of a page as a browser builds them, with their attributes."""
    tree = html5lib.parse(page, treebuilder="etree", namespaceHTMLElements=False)
    return [
        (str(element.tag).rpartition("}")[2], dict(element.attrib))
        for element in tree.iter()
        if isinstance(element.tag, str)
    ]


def test_text_of_models_never_becomes_markup() -> None:
    hostile, plain = list_elements(make_html(make_document(EVIL))), make_html(make_document("x"))
    assert [name for name, _ in hostile] == [name for name, _ in list_elements(plain)]
    names = {name for name, _ in hostile}
    assert not names & {"script", "iframe", "object", "embed", "link", "base", "form", "a"}
    assert "\u202e" not in make_html(make_document(EVIL))


def test_the_report_loads_nothing_and_has_no_handlers_and_inline_styles() -> None:
    for name, attributes in list_elements(make_html(make_document(EVIL))):
        for key, value in attributes.items():
            assert not key.lower().startswith("on"), (name, key)
            assert key not in ("style", "href", "srcset", "action"), (name, key)
            if key == "src":
                assert re.fullmatch(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+", value)


def test_the_policy_allows_the_style_sheet_and_data_images_alone() -> None:
    page = make_html(make_document("x"))
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = next(a["content"] for n, a in list_elements(page) if n == "meta" and "http-equiv" in a)
    assert policy == f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_a_drawing_is_an_image_of_its_own() -> None:
    page = make_html(make_document("x"))
    found = re.search(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", page)
    assert found
    assert base64.b64decode(found[1]).decode() == DRAWING + "x"


def test_all_tags_are_closed() -> None:
    opened: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, _attrs: object) -> None:
            if tag not in ("meta", "img"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

        def handle_startendtag(self, tag: str, _attrs: object) -> None:
            """An element of SVG without content."""

    Reader().feed(make_html(make_document(EVIL)))
    assert opened == []


def test_markdown_keeps_hostile_text_in_fences_and_cells() -> None:
    text = make_markdown(make_document("a|b\n```\n<script>``` **bold**"))
    fences = re.findall(r"^(`{3,})$", text, re.MULTILINE)
    assert set(fences) == {"````", "```"}
    outside = re.sub(r"^````\n.*?^````$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script>" not in outside
    assert "a\\|b\\\\n" in outside


def test_graphs_are_xml_and_stay_inside_their_frame() -> None:
    models = make_document(EVIL)["models"] * 9
    for graph in (draw_shares(["correct"], models), draw_quality(models)):
        root = ET.fromstring(graph)
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        for element in root.iter():
            for name, most in (("cx", width), ("cy", height), ("x2", width), ("y2", height)):
                assert 0 <= float(element.attrib.get(name, 0)) <= most


@pytest.mark.parametrize(
    "values", [[3.0], [0.0], [1.0, 2.0], [4.9, 5.1, 7.3], [-1.0, 1e6], [1e-9, 2e-9]]
)
def test_ticks_are_few_and_round_and_hold_all_values(values: list[float]) -> None:
    ticks = find_ticks(values)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= min(values)
    assert ticks[-1] >= max(values)


def test_a_share_is_told_with_its_interval() -> None:
    assert share_text(share(1, 2)) == "1 of 2, 50 % (10 to 90)"


def test_a_file_that_is_no_report_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    require_report_target(path)
    path.write_text(make_html(make_document("x")))
    require_report_target(path)
    path.write_text("<html>mine</html>")
    with pytest.raises(UsageError, match="not a report"):
        require_report_target(path)
    with pytest.raises(UsageError, match="must end"):
        require_report_target(tmp_path / "r.txt")
    with pytest.raises(UsageError, match="no such folder"):
        require_report_target(tmp_path / "no" / "r.html")
