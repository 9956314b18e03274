"""The figures of a comparison as text: the rows that terminal, Markdown and HTML share.

`document`, and the parts of it that the functions take, are as docs/reference/schemas/compare.json
describes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from g4cli.core.units import count_text, duration_text, measured_text, size_text
from g4cli.operations.compare.summary import SHARES, list_faults


def name_models(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each model: its label, or of an endpoint the model's own, if it is unique.

    The label of an endpoint is openai:URL#MODEL.
    """
    labels = [str(model["label"]) for model in models]
    short = [
        label.partition("#")[2] or label if label.startswith("openai:") else label
        for label in labels
    ]
    return [
        name if short.count(name) == 1 else label for name, label in zip(short, labels, strict=True)
    ]


def share_text(share: Mapping[str, Any]) -> str:
    """Return a share with its 95 % interval: "7 of 20, 35 % (18 to 57)"."""
    low, high = 100 * share["low"], 100 * share["high"]
    percent = 100 * share["share"]
    return f"{share['count']} of {share['total']}, {percent:.0f} % ({low:.0f} to {high:.0f})"


def list_summary_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """Return the summary table: in each row a heading, then a cell for each model.

    Rows that are empty for all models are left out.
    """
    models = document["models"]
    summaries, facts = [m["summary"] for m in models], [m["facts"] for m in models]
    rows: list[list[str]] = []
    if document["prompts"]:
        rows.append(["answers", *(f"{s['answered']} of {s['asked']}" for s in summaries)])
    for name in SHARES:
        shares = [s["shares"].get(name) for s in summaries]
        rows.append([name, *(share_text(share) if share else "" for share in shares)])
    wins = (
        f"{share_text(w)}, {count_text(w['ties'], 'tie')}" if (w := m["wins"]) else ""
        for m in models
    )
    rows += [
        ["preferred by the judge", *wins],
        ["time to first token", *_write_cells(summaries, "first_s", duration_text)],
        ["tokens per second", *_write_cells(summaries, "decode_tps", _number_text)],
        ["tokens of an answer", *_write_cells(summaries, "completion_tokens", _number_text)],
        ["file", *_write_cells(facts, "bytes", size_text)],
        ["memory at its peak", *_write_cells(facts, "peak_bytes", size_text)],
        ["g4 fit estimated", *_write_cells(facts, "fit_bytes", size_text)],
        ["type", *_write_cells(facts, "file_type", str)],
    ]
    return [row for row in rows if any(row[1:])]


def list_quality_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for each model that was evaluated, as QUALITY_HEADINGS names its columns."""
    rows = []
    models = document["models"]
    for name, model in zip(name_models(models), models, strict=True):
        quality = model["quality"]
        if quality:
            rows.append(
                [
                    name,
                    size_text(quality["bytes"]),
                    measured_text(quality["perplexity"], quality["perplexity_error"]),
                    f"{quality['pp128_tps']:.1f}",
                    f"{quality['tg32_tps']:.1f}",
                    size_text(quality["peak_bytes"]),
                ]
            )
    return rows


QUALITY_HEADINGS: Final = (
    "model",
    "size",
    "perplexity",
    "pp128, tokens/s",
    "tg32, tokens/s",
    "memory at its peak",
)


def list_fault_rows(document: Mapping[str, Any]) -> list[list[str]]:
    """Return the faults of all drawings, the commonest first: rule, what is wrong, and a cell each.

    The cell of a model says how many of its drawings break the rule.
    """
    models = document["models"]
    counts: dict[str, dict[int, Mapping[str, Any]]] = {}
    for at, model in enumerate(models):
        for fault in model["summary"]["faults"]:
            counts.setdefault(fault["rule"], {})[at] = fault
    rows = []
    for rule, by_model in sorted(
        counts.items(), key=lambda item: -sum(f["drawings"] for f in item[1].values())
    ):
        known = next(iter(by_model.values()))
        found = [by_model.get(at) for at in range(len(models))]
        cells = [f"{f['drawings']} ({f['repaired']} repaired)" if f else "" for f in found]
        rows.append([rule, f"{known['message']} ({known['kind']})", *cells])
    return rows


def describe_answer(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is known of an answer, as pairs of a few words and a mark.

    The mark is "good", "bad", or "" for neither: the HTML report has a color for each.
    """
    words: list[tuple[str, str]] = []
    if answer["correct"] is not None:
        words.append(("correct", "good") if answer["correct"] else ("wrong", "bad"))
    if answer["valid"] is not None:
        words.append(("valid", "good") if answer["valid"] else ("invalid", "bad"))
    if answer["problem"]:
        words.append((answer["problem"], ""))
    if answer["drawing"]:
        words.append(_describe_drawing(answer["drawing"]))
    if answer["loop"]:
        words.append(("loop", "bad"))
    if answer["finish_reason"] == "length":
        words.append(("cut off", "bad"))
    return words


def _describe_drawing(drawing: Mapping[str, Any]) -> tuple[str, str]:
    if any(finding["rule"] == "no-drawing" for finding in drawing["findings"]):
        return "no drawing", "bad"
    stages = {stage["name"]: stage["passed"] for stage in drawing["stages"]}
    if not drawing["works"]:
        return ("blank" if stages.get("renders") else "cannot be repaired"), "bad"
    faults = list_faults(drawing)
    if not faults:
        return "flawless as it came", "good"
    n_left = sum(not f["repaired"] for f in faults)
    n_repaired = len(faults) - n_left
    if not n_repaired:
        return f"{count_text(n_left, 'fault')} left", ""
    repaired = f"{count_text(n_repaired, 'fault')} repaired"
    return (f"{repaired}, {n_left} left", "") if n_left else (repaired, "good")


def describe_speed(answer: Mapping[str, Any]) -> str:
    """Return the figures of an answer in one line."""
    parts = []
    if answer["first_s"] is not None:
        parts.append(f"first token after {duration_text(answer['first_s'])}")
    if answer["decode_tps"]:
        parts.append(f"{answer['decode_tps']:.1f} tokens/s")
    if answer["completion_tokens"] is not None:
        parts.append(count_text(answer["completion_tokens"], "token"))
    return " · ".join(parts)


def _write_cells(
    models: Sequence[Mapping[str, Any]], key: str, write: Callable[[Any], str]
) -> list[str]:
    """Return what each of `models` has under `key` as text; "" if that is nothing or None."""
    return ["" if model.get(key) is None else write(model[key]) for model in models]


def _number_text(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
