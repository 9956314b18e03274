"""The result of `g4 bench`: as a table and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from g4cli.cli.output import Output
from g4cli.core.units import duration_text, size_text
from g4cli.runtime.measure.reports import BenchReport


def bench_to_json(path: Path, report: BenchReport, kv_type: str) -> dict[str, Any]:
    """Return the document of `g4 bench --json`: speeds in tokens per second, sizes in bytes.

    Schema: docs/reference/schemas/bench.json.
    """
    return {
        "model": str(path),
        "description": report.description,
        "weights_bytes": report.weights_bytes,
        "n_params": report.n_params,
        "n_threads": report.n_threads,
        "kv_type": kv_type,
        "load_s": round(report.load_s, 3),
        "peak_memory_bytes": report.peak_bytes,
        "tests": [
            {
                "test": test.name,
                "n_tokens": test.n_tokens,
                "n_depth": test.n_depth,
                "tokens_per_s": round(test.mean, 3),
                "stddev": round(test.stddev, 3),
                "samples": [round(sample, 3) for sample in test.samples],
            }
            for test in report.tests
        ],
    }


def draw_bench(out: Output, report: BenchReport) -> None:
    """Draw the speeds as llama-bench does, one row a test, then load time and peak memory."""
    rows = [
        (
            report.description,
            size_text(report.weights_bytes),
            report.n_threads,
            test.name,
            f"{test.mean:.2f} ± {test.stddev:.2f}",
        )
        for test in report.tests
    ]
    out.table(("model", "weights", "threads", "test", "t/s"), rows, right=(1, 2, 4))
    out.line(f"load {duration_text(report.load_s)}, peak memory {size_text(report.peak_bytes)}")
