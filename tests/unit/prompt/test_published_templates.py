"""One table of published chat templates, for the renderer, for `g4 show` and for the doctor."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.core.gguf import read_header
from g4cli.core.template_child import render_template
from g4cli.doctor.diagnose import judge_facts
from g4cli.doctor.facts.gather import gather_facts
from g4cli.prompt import published_templates
from g4cli.prompt.published_templates import (
    PUBLISHED,
    PublishedTemplate,
    describe_published,
    find_published,
    hash_template,
)
from g4cli.prompt.template import choose_renderer
from g4cli.store.describe import summarize_header
from tests.support.builders.damage import GGUF, value
from tests.support.builders.tiny_file import build_tiny

TEMPLATE = "{% for m in messages %}<|turn>{{ m.role }}:{{ m.content }}{% endfor %}"


def test_a_template_is_recognized_by_its_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_published(TEMPLATE) is None
    row = PublishedTemplate(hash_template(TEMPLATE)[:8], "2026-04-10", "small")
    monkeypatch.setattr(published_templates, "PUBLISHED", (*PUBLISHED, row))
    assert find_published(TEMPLATE) == row
    assert describe_published(row) == "Google's template of 2026-04-10 (E2B, E4B)"


def test_revisions_are_told_apart() -> None:
    names = [describe_published(row) for row in PUBLISHED]
    assert len(set(names)) == len(names) == len({row.sha256_prefix for row in PUBLISHED})
    assert [row.date for row in PUBLISHED if row.is_launch] == ["2026-04-02"]
    assert {row.size for row in PUBLISHED if row.is_current} == {"large", "small"}


@pytest.mark.slow
@pytest.mark.parametrize("size", ["large", "small"])
def test_renderer_show_and_doctor_agree_on_a_revision(
    size: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hash_template(TEMPLATE)
    row = PublishedTemplate(digest[:8], "2026-04-10", size)  # type: ignore[arg-type]
    monkeypatch.setattr(published_templates, "PUBLISHED", (row,))
    file = GGUF(build_tiny())
    file.keys["tokenizer.chat_template"] = value("str", TEMPLATE)
    path = tmp_path / "model.gguf"
    path.write_bytes(file.encode())
    name = describe_published(row)
    shown = [text for section in summarize_header(read_header(path)) for _, text in section.lines]
    assert any(text.startswith(f"{name}; outdated") for text in shown)
    report = judge_facts(gather_facts(path, "quick"), ("template.revision",))
    assert [(f.status, f.found) for f in report.findings] == [("ok", name)]
    assert choose_renderer(TEMPLATE, render_template).empty_thought is (size == "large")
