"""The report of `g4 compare`: one HTML file without scripts that loads nothing from outside.

All text of models is escaped. A drawing is an image of its own (`<img>` with a data: URL), in which
browsers run no script and load nothing; the Content-Security-Policy of the page forbids both too.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from g4cli.cli.views.compare_chart import color_of, draw_quality, draw_shares
from g4cli.cli.views.compare_figures import (
    QUALITY_HEADINGS,
    describe_answer,
    describe_speed,
    list_fault_rows,
    list_quality_rows,
    list_summary_rows,
    name_models,
)
from g4cli.cli.views.compare_style import STYLE
from g4cli.core.units import count_text
from g4cli.core.visible import escape_invisible, one_line
from g4cli.operations.compare.summary import SHARES

GENERATOR: Final = '<meta name="generator" content="g4 compare">'
_MAX_SHOWN: Final = 600  # characters of an answer that are shown at once; a click shows all of it
_MAX_TEXT: Final = 100_000  # characters of a text in the report; the results have all of it


def make_html(document: Mapping[str, Any]) -> str:
    """Return the report of a comparison; `document` as in docs/reference/schemas/compare.json."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    what = [count_text(len(document["models"]), "model")]
    if document["prompts"]:
        what.append(count_text(len(document["prompts"]), "prompt"))
    title = ", ".join(what) if document["prompts"] else f"{what[0]} compared"
    return "".join(
        (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">{GENERATOR}',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_html_line(title)}</title><style>{STYLE}</style></head><body><main>\n",
            *_draw_page(document, title),
            "</main></body></html>\n",
        )
    )


def _draw_page(document: Mapping[str, Any], title: str) -> Iterator[str]:
    run = document["run"]
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run["written_at"]))
    yield f"<h1>{_html_line(title)}</h1>\n"
    yield f'<p class="soft">g4 compare, {when}, {_html_line(run["machine"])}</p>'
    if not run["complete"]:
        yield '<p class="note">Results are missing: run the same command again to get them.</p>'
    for model in document["models"]:
        if model["problem"]:
            label, problem = _html_line(model["label"]), _html_line(model["problem"])
            yield f'<p class="note"><b>{label}</b>: {problem}</p>'
    yield from _draw_summary(document)
    yield from _draw_quality(document)
    yield from _draw_faults(document)
    if document["opinions"]:
        yield from _draw_opinions(document)
    for prompt in document["prompts"]:
        yield from _draw_prompt(prompt, document["models"])
    yield from _draw_run(document)


def _draw_summary(document: Mapping[str, Any]) -> Iterator[str]:
    rows = list_summary_rows(document)
    if not rows:
        return
    models = document["models"]
    yield "<h2>Summary</h2>\n"
    # The graph has shares of which more are better; of these two, fewer are.
    names = [name for name in SHARES if name not in ("loops", "cut off")]
    if any(m["summary"]["shares"].get(name) for m in models for name in names):
        yield f'<div class="scroll">{draw_shares(names, models)}</div><p></p>'
    yield _draw_table(["", *_draw_labels(models)], rows, draw_first=_draw_heading)
    yield (
        '<p class="soft">In parentheses: the 95 % confidence interval (Wilson). '
        "Times and speeds are medians.</p>\n"
    )


def _draw_heading(name: str) -> str:
    """Return the heading of a row, with what a share means below it."""
    return _html_line(name) + _draw_small(SHARES.get(name, ""))


def _draw_small(text: str) -> str:
    return f"<small>{_html_line(text)}</small>" if text else ""


def _draw_labels(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the name of each model after its color; below it the address of its endpoint."""
    labels = []
    for index, (name, model) in enumerate(zip(name_models(models), models, strict=True)):
        label = model["label"]
        address = "" if name == label else label.partition("#")[0].removeprefix("openai:")
        labels.append(f"{_draw_dot(index)}{_html_line(name)}{_draw_small(address)}")
    return labels


def _draw_dot(index: int) -> str:
    """Return a dot in the color that the graphs have for the model at `index`."""
    circle = f'<circle cx="1" cy="1" r="1" fill="{color_of(index)}"/>'
    return f'<svg class="key" viewBox="0 0 2 2">{circle}</svg>'


def _draw_quality(document: Mapping[str, Any]) -> Iterator[str]:
    rows = list_quality_rows(document)
    if rows:
        yield f"<h2>Quality on {_html_line(document['run']['text'] or '')}</h2>\n"
        yield f'<div class="scroll">{draw_quality(document["models"])}</div><p></p>'
        yield _draw_table(QUALITY_HEADINGS, rows)


def _draw_faults(document: Mapping[str, Any]) -> Iterator[str]:
    rows = list_fault_rows(document)
    if rows:
        yield '<h2>Faults of the drawings</h2>\n<p class="soft">In how many drawings each rule was '
        yield "broken, and in how many of them all of it could be repaired.</p>"
        headings = ["rule", "what is wrong", *_draw_labels(document["models"])]
        yield _draw_table(headings, rows)


def _draw_opinions(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2>Opinions of {_html_line(document['run']['judge'])}</h2>\n"
    yield '<p class="note">These are opinions of a model, not measurements. It was asked twice, '
    yield "with the answers in both orders; it counts only if it preferred the same one.</p>"
    rows = (
        (opinion["prompt"], opinion["sample"] + 1, *(opinion[k] for k in ("a", "b", "winner")))
        for opinion in document["opinions"]
    )
    table = _draw_table(["prompt", "answer", "one", "other", "preferred"], rows)
    yield f"<details><summary>All {len(document['opinions'])} opinions</summary>{table}</details>"


def _draw_prompt(prompt: Mapping[str, Any], models: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield f"<h2>{_html_line(prompt['id'])}</h2>\n"
    yield f'<p class="prompt">{_html_text(prompt["prompt"])}</p>'
    if prompt.get("expected") is not None:
        expected = prompt["expected"]
        words = expected if isinstance(expected, list) else [expected]
        yield f'<p class="soft">Expected: {_html_line(" or ".join(map(str, words)))}</p>'
    yield '<div class="cards">'
    labels = _draw_labels(models)
    for index, model in enumerate(models):
        answers = [a for a in prompt["answers"] if a["model"] == model["label"]]
        if answers:
            yield f'<section class="card"><h3>{labels[index]}</h3>'
            yield from (_draw_answer(answer) for answer in answers)
            yield "</section>"
    yield "</div>\n"


def _draw_answer(answer: Mapping[str, Any]) -> str:
    chips = "".join(
        f'<span class="chip {mark}">{_html_line(word)}</span>'
        for word, mark in describe_answer(answer)
    )
    drawing, text = answer["drawing"], answer["text"]
    parts = ['<div class="answer">']
    if drawing:
        parts.append(_draw_picture(drawing))
    elif text:
        shown = text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"
        parts.append(f'<div class="text">{_html_text(shown)}</div>')
    else:
        parts.append('<p class="soft">an empty answer</p>')
    parts.append(
        f'<div class="chips">{chips}</div><small>{_html_line(describe_speed(answer))}</small>'
    )
    if drawing and drawing["findings"]:
        items = "".join(f"<li>{_html_line(_describe_finding(f))}</li>" for f in drawing["findings"])
        parts.append(f"<details><summary>Findings</summary><ul>{items}</ul></details>")
    if answer["thought"]:
        thought = _html_text(answer["thought"])
        parts.append(f"<details><summary>Thought</summary><pre>{thought}</pre></details>")
    if drawing or len(text) > _MAX_SHOWN:
        parts.append(f"<details><summary>Answer</summary><pre>{_html_text(text)}</pre></details>")
    return "".join((*parts, "</div>"))


def _draw_picture(drawing: Mapping[str, Any]) -> str:
    if not drawing.get("svg"):
        return '<div class="picture none">nothing to show</div>'
    encoded = base64.b64encode(drawing["svg"].encode("utf-8", "replace")).decode()
    return f'<div class="picture"><img alt="" src="data:image/svg+xml;base64,{encoded}"></div>'


def _describe_finding(finding: Mapping[str, Any]) -> str:
    after = f": {finding['repair']}" if finding["repaired"] and finding["repair"] else ""
    return f"line {finding['line']}: {finding['message']}{after}"


def _draw_run(document: Mapping[str, Any]) -> Iterator[str]:
    run = document["run"]
    yield "<h2>How to repeat it</h2>\n"
    yield f"<pre>{_html_text(run['command'])}</pre><p></p>"
    common = {
        "g4": run["g4"],
        "llama-cpp-python": run["llama_cpp_python"],
        "machine": run["machine"],
        "answers to a prompt": run["samples"],
        "results": run["results"],
        "judge": run["judge"] or "",
        "sha256 or endpoint of the judge": run["judge_identity"] or "",
    }
    yield _draw_table(("", ""), (row for row in common.items() if row[1] != ""))
    for index, model in enumerate(document["models"]):
        table = _draw_table(("", ""), (r for r in _list_facts(model) if r[1] not in ("", None)))
        summary = f"{_draw_dot(index)}{_html_line(model['label'])}"
        yield f"<details><summary>{summary}</summary>{table}</details>"


def _list_facts(model: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in model["settings"].items():
        yield f"--{name}", value
    # A model that answered nothing, but was evaluated, has its facts there.
    for name, value in (model["facts"] or model["quality"] or {}).items():
        if isinstance(value, Mapping):
            yield name, ", ".join(f"{k} {v}" for k, v in value.items())
        else:
            yield ("sha256 or endpoint" if name == "identity" else name), value


def _html_line(value: Any) -> str:
    """Return a text for one line as HTML."""
    return escape(one_line(str(value)))


def _draw_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[Any]],
    draw_first: Callable[[Any], str] = _html_line,
) -> str:
    """Return a table of `headings`, which are HTML, and `rows` of texts and numbers.

    `draw_first` returns the first cell of a row, its heading, as HTML.
    """
    head = "".join(f"<th>{cell}</th>" for cell in headings)
    body = "".join(
        f"<tr><th>{draw_first(first)}</th>"
        f"{''.join(f'<td>{_html_line(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    )
    top = f"<thead><tr>{head}</tr></thead>" if any(headings) else ""
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>'


def _html_text(value: str) -> str:
    """Return a text of several lines as HTML, without what is beyond _MAX_TEXT."""
    n_more = len(value) - _MAX_TEXT
    more = f"\n… and {n_more:,} more characters in the file of results" if n_more > 0 else ""
    return escape(escape_invisible(value[:_MAX_TEXT]) + more)
