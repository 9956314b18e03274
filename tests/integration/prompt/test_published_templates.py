"""One table of published chat templates, for the renderer, for `g4 show` and for the doctor."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.core.template_child import render_template
from g4cli.doctor.diagnose import judge_facts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.prompt import published_templates
from g4cli.prompt.published_templates import (
    PublishedTemplate,
    hash_template,
)
from g4cli.prompt.template import choose_renderer
from tests.support.builders.damage import GGUF, value
from tests.support.builders.tiny_file import build_tiny

TEMPLATE = "{% for m in messages %}<|turn>{{ m.role }}:{{ m.content }}{% endfor %}"


@pytest.mark.slow
def test_the_launch_revision_is_a_warning_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = PublishedTemplate(hash_template(TEMPLATE)[:8], "2026-04-02", "all", is_launch=True)
    monkeypatch.setattr(published_templates, "PUBLISHED", (row,))
    file = GGUF(build_tiny())
    file.keys["tokenizer.chat_template"] = value("str", TEMPLATE)
    path = tmp_path / "model.gguf"
    path.write_bytes(file.encode())
    report = judge_facts(gather_facts(path, "quick"), ("template.revision",))
    assert [f.status for f in report.findings] == ["warn"]
    assert "2026-04-02" in choose_renderer(TEMPLATE, render_template).notice
