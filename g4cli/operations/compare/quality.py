"""Measure the perplexity of local models on a text, and their speed, as g4 eval and g4 bench do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from g4cli import __version__
from g4cli.core.hashing import sha256_of
from g4cli.core.reporter import Reporter
from g4cli.host import read_host
from g4cli.operations.chat.plan import plan_chat
from g4cli.operations.compare.answerers import describe_setup, identify_model
from g4cli.operations.compare.results import ResultsFile, make_key
from g4cli.operations.compare.specs import ModelSpec
from g4cli.operations.models import prepare_model
from g4cli.runtime.measure.client import run_measurement
from g4cli.runtime.measure.eval_text import read_conversations
from g4cli.runtime.measure.messages import RunBench, RunEvaluation
from g4cli.runtime.measure.reports import BenchOptions

_BENCH: Final = BenchOptions(n_prompt=128, n_gen=32, repetitions=3)  # a choice: a short one
# Settings that the figures depend on; other settings concern answers only.
_LOADING: Final = frozenset(
    ("threads", "gpu-layers", "device", "mmap", "lazy-ple", "cpu-moe", "expand")
)


def measure_model(
    spec: ModelSpec, text: Path, limit: int, results: ResultsFile, reporter: Reporter
) -> Mapping[str, Any]:
    """Return perplexity on `text`, speed and size of a local model.

    `limit`: how many answers or passages of the text count, 0: all. Raises DoesNotFit, and what
    g4 eval and g4 bench raise.
    """
    identity = identify_model(spec, reporter)
    text_sha256 = sha256_of(text)
    settings = {k: v for k, v in sorted(spec.settings.items()) if k in _LOADING}
    key = make_key(identity, text_sha256, limit, *([settings] if settings else []))
    known = results.find("quality", key)
    if known is not None:
        return {**known, "label": spec.label}
    conversations = read_conversations(text)
    conversations = conversations[: limit or len(conversations)]
    request = spec.make_request()
    model = prepare_model(spec.name, reporter, expand=request.expand)
    options = plan_chat(request, model, read_host(), reporter, require_fit=True).loading
    with reporter.progress(f"evaluate {spec.label}", unit="steps") as progress:
        evaluation = run_measurement(
            RunEvaluation(
                model.path,
                options,
                tuple(conversations),
                against=None,
                n_threads=request.threads,
            ),
            progress,
        )
        bench = replace(_BENCH, n_threads=request.threads)
        speed = run_measurement(RunBench(model.path, options, bench), progress)
    rates = {test.name[:2]: round(test.mean, 2) for test in speed.tests}  # of pp128 and tg32
    return results.add(
        "quality",
        key,
        {
            "label": spec.label,
            "identity": identity,
            "text": text.name,
            "text_sha256": text_sha256,
            "bytes": model.path.stat().st_size,
            "documents": evaluation.n_documents,
            "tokens": evaluation.score.n,
            "perplexity": round(evaluation.score.perplexity, 7),
            "perplexity_error": round(evaluation.score.perplexity_error, 7),
            "pp128_tps": rates["pp"],
            "tg32_tps": rates["tg"],
            "peak_bytes": speed.peak_bytes,
            "g4": __version__,
            **describe_setup(),
        },
    )
