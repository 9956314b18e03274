"""The report of a comparison: hostile text stays text, drawings stay pictures, graphs stay SVG."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import html5lib
import pytest

from g4cli.cli.options.compare import write_command
from g4cli.cli.views.compare import require_report_target
from g4cli.cli.views.compare_chart import draw_quality, draw_shares, find_ticks, place_labels
from g4cli.cli.views.compare_figures import name_models, share_text
from g4cli.cli.views.compare_html import make_html
from g4cli.cli.views.compare_markdown import make_markdown
from g4cli.core.errors import UsageError
from tests.support.builders.comparison import DRAWING, EVIL, make_document, make_share


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


def test_a_text_without_end_is_cut_in_the_report_alone() -> None:
    document = make_document("x")
    document["prompts"][0]["answers"][0]["text"] = "y" * 3_000_000
    page = make_html(document)
    assert len(page) < 200_000
    assert "2,900,000 more characters in the file of results" in page


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
    text = make_markdown(make_document("a|b\n```\n<script>``` **bold** &lt;"))
    fences = re.findall(r"^(`{3,})$", text, re.MULTILINE)
    assert set(fences) == {"````", "```"}
    outside = re.sub(r"^````\n.*?^````$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<script>" not in outside
    assert "a\\|b\\\\n" in outside
    assert "\\&lt;" in outside


def test_markdown_says_which_of_several_answers_it_means() -> None:
    document = make_document("x")
    assert "answer 1" not in make_markdown(document)
    document["run"]["samples"] = 2
    document["prompts"][0]["answers"][1]["sample"] = 1
    text = make_markdown(document)
    assert "| prompt | one | other | preferred | answer |" in text
    assert "| x | x | x | x | 1 |" in text
    assert "**x** answer 1; correct" in text
    assert "**x** answer 2; correct" in text


def test_graphs_are_xml_and_stay_inside_their_frame() -> None:
    models = make_document(EVIL)["models"] * 9
    for graph in (draw_shares(["correct"], models), draw_quality(models)):
        root = ET.fromstring(graph)
        width, height = map(float, root.attrib["viewBox"].split()[2:])
        for element in root.iter():
            for name, most in (("cx", width), ("cy", height), ("x2", width), ("y2", height)):
                assert 0 <= float(element.attrib.get(name, 0)) <= most


@pytest.mark.parametrize(
    "values",
    [[3.0], [0.0], [1.0, 2.0], [4.9, 5.1, 7.3], [-1.0, 1e6], [1e-9, 2e-9], [100.3456, 100.3457]],
)
def test_ticks_are_few_and_round_and_hold_all_values(values: list[float]) -> None:
    ticks = find_ticks(values)
    assert 3 <= len(ticks) <= 6
    assert len({f"{tick:g}" for tick in ticks}) == len(ticks)
    assert ticks[0] <= min(values)
    assert ticks[-1] >= max(values)


def test_a_share_is_told_with_its_interval() -> None:
    assert share_text(make_share(1, 2)) == "1 of 2, 50 % (10 to 90)"


def test_a_file_that_is_no_report_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    require_report_target(path)
    path.write_text(make_html(make_document("x")))
    require_report_target(path)
    path.write_text("<html>mine</html>")
    with pytest.raises(UsageError, match="not a report"):
        require_report_target(path)
    for name in ("r.txt", "r.htm"):
        with pytest.raises(UsageError, match="must end"):
            require_report_target(tmp_path / name)
    with pytest.raises(UsageError, match="no such folder"):
        require_report_target(tmp_path / "no" / "r.html")


def test_a_model_of_an_endpoint_has_its_own_name_unless_two_have_the_same() -> None:
    urls = ["openai:http://a/v1#x", "openai:http://b/v1#x", "openai:http://b/v1#y@temp=0"]
    names = name_models([{"label": label} for label in [*urls, "e2b"]])
    assert names == [*urls[:2], "y@temp=0", "e2b"]


def test_labels_of_points_cover_neither_points_nor_each_other() -> None:
    spots = [(100.0, 50.0, "e2b:bf16"), (112.0, 51.0, "e2b:q8_0"), (124.0, 49.0, "e2b:q6_k")]
    # A name that has no room on either side of its point is shortened.
    spots.append((140.0, 150.0, "bartowski/google_gemma-4-26B-it-GGUF:q4_0"))
    placed = place_labels(spots, 0, 300)
    assert [label for *_, label in placed[:3]] == [label for *_, label in spots[:3]]
    assert placed[3][3].endswith("-it-GGUF:q4_0")
    assert len({(x, y) for x, y, *_ in placed}) == 4
    boxes = []
    for x, y, anchor, label in placed:
        begin = x if anchor == "start" else x - 6.4 * len(label)
        boxes.append((begin, begin + 6.4 * len(label), y - 11, y + 3))
    for at, one in enumerate(boxes):
        assert one[0] >= 0
        assert one[1] <= 300
        for other in boxes[at + 1 :]:
            apart = one[1] <= other[0] or other[1] <= one[0]
            assert apart or one[3] <= other[2] or other[3] <= one[2]


@pytest.mark.parametrize("prompt", ["--think of a number", "-"])
def test_the_command_that_repeats_a_comparison_takes_any_prompt(prompt: str) -> None:
    command = write_command(prompt, ["tiny"], {"-n": 1})
    assert shlex.split(command) == ["g4", "compare", "-m", "tiny", "-n", "1", "--", prompt]
