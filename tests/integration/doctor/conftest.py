"""Each chat template is rendered once: a process of its own takes most of the time of a check."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from g4cli.core.template_child import render_template

ROOMS = ("checks.template", "probe.prompts", "probe.any_model")

_known: dict[tuple[str, str], list[str]] = {}


@pytest.fixture(autouse=True, scope="module")
def one_process_for_each_template() -> Iterator[None]:
    """Remember what templates of files write; their errors are found anew each time."""

    def render_once(
        template: str, cases: Sequence[Mapping[str, Any]], *, path: Path | None = None
    ) -> list[str]:
        key = template, json.dumps([dict(case) for case in cases])
        if key not in _known:
            _known[key] = render_template(template, cases, path=path)
        return _known[key]

    with pytest.MonkeyPatch.context() as patch:
        for room in ROOMS:
            patch.setattr(f"g4cli.doctor.{room}.render_template", render_once)
        yield
