"""A comparison as Markdown, for `g4 compare --md`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from g4cli.cli.views.compare_figures import (
    QUALITY_HEADINGS,
    describe_answer,
    describe_speed,
    list_fault_rows,
    list_quality_rows,
    list_summary_rows,
)
from g4cli.core.visible import escape_invisible, one_line


def make_markdown(document: Mapping[str, Any]) -> str:
    """Return the tables of a comparison, its answers, and how to repeat it."""
    return "\n".join(_iter_lines(document)).rstrip("\n") + "\n"


def _iter_lines(document: Mapping[str, Any]) -> Iterator[str]:
    models = document["models"]
    labels = [model["label"] for model in models]
    for model in models:
        if model["problem"]:
            yield f"**{_cell(model['label'])}**: {_cell(model['problem'])}\n"
    rows = [[name, *cells] for name, cells in list_summary_rows(document)]
    if rows:
        yield from _table(["", *labels], rows)
    quality = list_quality_rows(document)
    if quality:
        yield from _table(QUALITY_HEADINGS, quality)
    faults = list_fault_rows(document)
    if faults:
        yield from _table(["rule", "what is wrong", *labels], faults)
    if document["opinions"]:
        judge = _cell(str(document["run"]["judge"]))
        yield f"Opinions of {judge}, not measurements; it was asked twice, in both orders.\n"
        names = ("prompt", "a", "b", "winner")
        yield from _table(
            ("prompt", "one", "other", "preferred"),
            [[opinion[name] for name in names] for opinion in document["opinions"]],
        )
    for prompt in document["prompts"]:
        yield f"## {_cell(prompt['id'])}\n"
        yield from _fence(prompt["prompt"])
        for answer in prompt["answers"]:
            words = ", ".join(word for word, _ in describe_answer(answer))
            known = "; ".join(filter(None, (words, describe_speed(answer))))
            yield f"**{_cell(answer['model'])}** {_cell(known)}\n"
            yield from _fence(answer["text"])
    yield "## How to repeat it\n"
    yield from _fence(document["run"]["command"])
    run = document["run"]
    yield f"g4 {run['g4']}, llama-cpp-python {run['llama_cpp_python']}, {_cell(run['machine'])}\n"
    for model in models:
        settings = ", ".join(f"{name} {value}" for name, value in model["settings"].items())
        facts = model["facts"] or model["quality"] or {}
        identity = facts.get("identity", "")
        yield f"- {_cell(model['label'])}: {_cell(str(identity))}; {_cell(settings)}"
        if facts.get("llama_cpp_sha256"):
            yield f"  - build of llama.cpp: {_cell(facts['llama_cpp_sha256'])}"
    if run["judge"]:
        yield f"- judge {_cell(run['judge'])}: {_cell(run['judge_identity'] or '')}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(map(_cell, headings)) + " |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield "| " + " | ".join(map(_cell, row)) + " |"
    yield ""


def _cell(text: str) -> str:
    """Return text of one line in which nothing is markup of Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>|#~])", r"\\\1", one_line(str(text)))


def _fence(text: str) -> Iterator[str]:
    """Yield a text in a fence that is longer than any in it."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}\n{escape_invisible(text)}\n{fence}\n"
