"""Renderers that are chosen by a model's chat template, which is tried in a child process."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.core.gguf import read_header
from g4cli.core.template_child import render_template
from g4cli.prompt import (
    Message,
    PromptStyle,
    choose_renderer,
)
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


def test_tinys_template_agrees_with_the_renderer() -> None:
    renderer = choose_renderer(TINY_TEMPLATE, render_template)
    assert renderer.notice == ""
    assert not renderer.empty_thought
    parts = renderer(HISTORY, PromptStyle())
    assert [part.control for part in parts] == [True, False] * 3 + [True]


def test_tools_on_tiny_go_through_its_template() -> None:
    parts = choose_renderer(TINY_TEMPLATE, render_template)(QUESTION, PromptStyle(tools=(WEATHER,)))
    assert "<|tool>declaration:weather{description:" in parts[0].text
    assert [part.text for part in parts if not part.control] == ["What is GGUF?"]


def test_a_strange_template_is_used_as_it_is_with_a_notice() -> None:
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    renderer = choose_renderer(template, render_template)
    assert "unknown to g4" in renderer.notice
    parts = renderer(HISTORY, PromptStyle())
    assert "".join(part.text for part in parts) == "[user]a[assistant] b [user]c"


@pytest.mark.requires_vocab
def test_the_launch_template_is_named(vocab_file: Path) -> None:
    template = read_header(vocab_file).get("tokenizer.chat_template", str)
    renderer = choose_renderer(template, render_template)
    assert "the chat template of 2026-04-02" in renderer.notice
    text = renderer(QUESTION, PromptStyle(think=True))[0].text
    assert text.startswith("<bos><|turn>system\n<|think|>")
