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
    """Return the tables of a comparison, its answers, and how to repeat it.

    `document` is as docs/reference/schemas/compare.json describes it.
    """
    return "\n".join(_iter_lines(document)).rstrip("\n") + "\n"


def _iter_lines(document: Mapping[str, Any]) -> Iterator[str]:
    models, run = document["models"], document["run"]
    has_samples = run["samples"] > 1
    labels = [model["label"] for model in models]
    for model in models:
        if model["problem"]:
            yield f"**{_escape(model['label'])}**: {_escape(model['problem'])}\n"
    if rows := list_summary_rows(document):
        yield from _draw_table(["", *labels], rows)
    if quality := list_quality_rows(document):
        yield from _draw_table(QUALITY_HEADINGS, quality)
    if faults := list_fault_rows(document):
        yield from _draw_table(["rule", "what is wrong", *labels], faults)
    if document["opinions"]:
        judge = _escape(str(run["judge"]))
        yield f"Opinions of {judge}, not measurements; it was asked twice, in both orders.\n"
        columns = {"prompt": "prompt", "a": "one", "b": "other", "winner": "preferred"}
        opinions = document["opinions"]
        if has_samples:
            columns["sample"] = "answer"
            opinions = [opinion | {"sample": opinion["sample"] + 1} for opinion in opinions]
        yield from _draw_table(
            list(columns.values()), [[opinion[key] for key in columns] for opinion in opinions]
        )
    for prompt in document["prompts"]:
        yield f"## {_escape(prompt['id'])}\n"
        yield from _draw_fenced(prompt["prompt"])
        for answer in prompt["answers"]:
            words = ", ".join(text for text, _ in describe_answer(answer))
            number = f"answer {answer['sample'] + 1}" if has_samples else ""
            known = "; ".join(filter(None, (number, words, describe_speed(answer))))
            yield f"**{_escape(answer['model'])}** {_escape(known)}\n"
            yield from _draw_fenced(answer["text"])
    yield "## How to repeat it\n"
    yield from _draw_fenced(run["command"])
    yield f"g4 {run['g4']}, llama-cpp-python {run['llama_cpp_python']}, {_escape(run['machine'])}\n"
    for model in models:
        settings = ", ".join(f"{name} {value}" for name, value in model["settings"].items())
        # A model that answered nothing has no facts, but may have a measured quality.
        facts = model["facts"] or model["quality"] or {}
        identity = facts.get("identity", "")
        yield f"- {_escape(model['label'])}: {_escape(str(identity))}; {_escape(settings)}"
        if facts.get("llama_cpp_sha256"):
            yield f"  - build of llama.cpp: {_escape(facts['llama_cpp_sha256'])}"
    if run["judge"]:
        yield f"- judge {_escape(run['judge'])}: {_escape(run['judge_identity'] or '')}"


def _draw_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield "| " + " | ".join(map(_escape, headings)) + " |"
    yield "|" + "---|" * len(headings)
    for row in rows:
        yield "| " + " | ".join(map(_escape, row)) + " |"
    yield ""


def _escape(text: str) -> str:
    """Return text of one line in which nothing is markup of Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", one_line(str(text)))


def _draw_fenced(text: str) -> Iterator[str]:
    """Yield a text in a fence that is longer than any in it."""
    longest = max(map(len, re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}\n{escape_invisible(text)}\n{fence}\n"
