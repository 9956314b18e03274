"""A comparison as a JSON document: docs/reference/schemas/compare.json. The reports draw it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from g4cli import __version__
from g4cli.host import engine_version
from g4cli.operations.compare.answerers import describe_machine
from g4cli.operations.compare.results import ResultsFile
from g4cli.operations.compare.run import ComparedModel, Comparison
from g4cli.operations.compare.summary import Wins, count_wins, summarize_model
from g4cli.operations.prompts import Prompt

_ANSWER_FIELDS: Final = (
    "sample", "seed", "text", "thought", "finish_reason", "prompt_tokens", "reused_tokens",
    "completion_tokens", "first_s", "total_s", "prompt_tps", "decode_tps", "loop", "correct",
    "valid", "problem", "drawing", "at",
)  # fmt: skip
# `a` and `b` are labels of models; see judge.py for the others.
_OPINION_FIELDS: Final = ("prompt", "sample", "a", "b", "first", "second", "winner")


def make_document(comparison: Comparison, results: ResultsFile) -> dict[str, Any]:
    """Return all of a comparison as JSON values."""
    request = comparison.request
    wins = count_wins(comparison)
    return {
        "run": {
            "command": request.command,
            "samples": request.samples,
            "complete": not comparison.interrupted
            and all(model.error is None for model in comparison.models),
            "results": results.path.name,
            "written_at": int(time.time()),
            "g4": __version__,
            "llama_cpp_python": engine_version() or "",
            "machine": describe_machine(),
            "judge": request.judge.label if request.judge else None,
            "judge_identity": comparison.judge_identity or None,
            "text": request.text.name if request.text else None,
        },
        "models": [_describe_model(model, comparison, wins) for model in comparison.models],
        "prompts": [_describe_prompt(prompt, comparison) for prompt in request.prompts],
        "opinions": [
            {name: opinion[name] for name in _OPINION_FIELDS} for opinion in comparison.opinions
        ],
    }


def _describe_model(
    model: ComparedModel, comparison: Comparison, wins: Mapping[str, Wins]
) -> dict[str, Any]:
    """Return a model without its answers; "wins" is None if there are no opinions about it."""
    won = wins.get(model.spec.label)
    return {
        "label": model.spec.label,
        "problem": model.problem,
        "settings": {k: v for k, v in sorted(model.spec.settings.items()) if v != ""},
        "facts": {
            name: value
            for name, value in model.facts.items()
            if name not in ("type", "key", "label", "settings")
        },
        "summary": summarize_model(model, comparison).as_json(),
        "quality": {k: v for k, v in model.quality.items() if k not in ("type", "key", "label")}
        if model.quality
        else None,
        "wins": won.share.as_json() | {"ties": won.n_ties} if won else None,
    }


def _describe_prompt(prompt: Prompt, comparison: Comparison) -> dict[str, Any]:
    answers = [
        {"model": model.spec.label} | {name: answer.get(name) for name in _ANSWER_FIELDS}
        for model in comparison.models
        for (prompt_id, _), answer in sorted(model.answers.items())
        if prompt_id == prompt.id
    ]
    return prompt.as_json() | {"sha256": prompt.digest, "answers": answers}
