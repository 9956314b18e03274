"""Renderers that are chosen by a model's chat template, which is tried in a child process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.errors import BadFile
from g4cli.core.gguf import read_header
from g4cli.core.template_child import render_template
from g4cli.prompt.messages import Media, Message
from g4cli.prompt.render import PromptStyle
from g4cli.prompt.template import RunTemplate, choose_renderer
from tests.support.paths import ROOT

TINY_TEMPLATE = (ROOT / "g4cli/data/tiny/chat_template.jinja").read_text()
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}}},
    },
}
QUESTION = [Message("user", " What is GGUF? \n")]
HISTORY = [Message("user", "a"), Message("assistant", " b "), Message("user", "c")]


@pytest.mark.slow
def test_tinys_template_agrees_with_the_renderer() -> None:
    renderer = choose_renderer(TINY_TEMPLATE, render_template)
    assert renderer.notice == ""
    assert not renderer.empty_thought
    parts = renderer(HISTORY, PromptStyle())
    assert [part.control for part in parts] == [True, False] * 3 + [True]


def count_runs(cases: list[int]) -> RunTemplate:
    """Return `render_template`, which notes in `cases` how many it renders at each call."""

    def run(template: str, variables: Sequence[Mapping[str, Any]]) -> list[str]:
        cases.append(len(variables))
        return render_template(template, variables)

    return run


@pytest.mark.slow
def test_tools_are_declared_without_the_template_if_it_agrees() -> None:
    runs: list[int] = []
    renderer = choose_renderer(TINY_TEMPLATE, count_runs(runs))
    parts = renderer(QUESTION, PromptStyle(tools=(WEATHER,)))
    assert "declaration:weather{description:" in "".join(part.text for part in parts)
    assert len(runs) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<|tool>declaration:", "<|tool>function:"),
        ("{%- for tool in tools or [] -%}", "{%- for tool in tools or [] -%}{{ tool.x.y }}"),
    ],
    ids=["differs", "fails"],
)
def test_tools_go_through_a_template_that_has_its_own_way_with_them(old: str, new: str) -> None:
    runs: list[int] = []
    assert old in TINY_TEMPLATE
    renderer = choose_renderer(TINY_TEMPLATE.replace(old, new), count_runs(runs))
    assert renderer.notice == ""
    del runs[:]
    assert renderer(HISTORY, PromptStyle())
    assert runs == []
    with suppress(BadFile):
        parts = renderer(QUESTION, PromptStyle(tools=(WEATHER,)))
        assert "<|tool>function:weather{description:" in parts[0].text
        assert [part.text for part in parts if not part.control] == ["What is GGUF?"]
    assert runs == [3]


@pytest.mark.slow
def test_images_go_through_a_template_that_has_its_own_way_with_them() -> None:
    runs: list[int] = []
    old = "{%- for part in content if part['type'] == 'text' -%}"
    new = "{%- for part in content if part['type'] == 'image' -%}[<|image|>]{%- endfor -%}"
    assert old in TINY_TEMPLATE
    renderer = choose_renderer(TINY_TEMPLATE.replace(old, new + old), count_runs(runs))
    del runs[:]
    assert renderer(HISTORY, PromptStyle())
    assert runs == []
    message = Message("user", "a", media=(Media("image", Path("a.png")),))
    text = "".join(part.text for part in renderer([message], PromptStyle()))
    assert text == "<bos><|turn>user\n[<|image|>]a<turn|>\n<|turn>model\n"


@pytest.mark.slow
def test_a_strange_template_is_used_as_it_is_with_a_notice() -> None:
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    renderer = choose_renderer(template, render_template)
    assert "unknown to g4" in renderer.notice
    parts = renderer(HISTORY, PromptStyle())
    assert "".join(part.text for part in parts) == "[user]a[assistant] b [user]c"


@pytest.mark.slow
@pytest.mark.requires_vocab
def test_the_launch_template_is_named(vocab_file: Path) -> None:
    template = read_header(vocab_file).get("tokenizer.chat_template", str)
    renderer = choose_renderer(template, render_template)
    assert "the chat template of 2026-04-02" in renderer.notice
    text = renderer(QUESTION, PromptStyle(think=True))[0].text
    assert text.startswith("<bos><|turn>system\n<|think|>")
