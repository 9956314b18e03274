"""llama.cpp's own memory figures compared with g4's estimate: `g4 fit --verify`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from g4cli.core.errors import UsageError
from g4cli.core.quoting import shell_command
from g4cli.estimate import Options, estimate
from g4cli.estimate.draft import draft_compute_bytes
from g4cli.operations.fit.subject import Subject
from g4cli.runtime.probes.memory import probe_in_child, run_of


def compare_with_llama_cpp(
    subject: Subject, options: Options, draft_path: Path | None = None
) -> dict[str, Any]:
    """Return g4's and llama.cpp's figures in bytes: {"library", "equal", "rows": [...]}.

    llama.cpp plans without mmap, so the weights are compared as they would be without it. `draft_path`
    is the file of the draft model. Raises UsageError if the subject is not a file on this disk or
    llama.cpp refuses the options, RuntimeFailed if it fails.
    """
    if subject.path is None:
        raise UsageError(
            f"{subject.name}: --verify needs a file",
            hint=shell_command("g4", "pull", subject.name),
        )
    answer = probe_in_child(subject.path, [{**run_of(options), "draft": str(draft_path or "")}])
    found = answer["runs"][0]
    if "error" in found:
        raise UsageError(
            f"llama.cpp refuses these settings: {found['error']}", hint="g4 fit --help"
        )
    rows = _compare_model(subject, options, found)
    if "draft" in found and options.draft:
        rows += _compare_draft_model(subject, options, found["draft"]["buffers"])
    equal = all(row["estimate"] == row["llama_cpp"] for row in rows)
    return {"library": answer["library"], "equal": equal, "rows": rows}


def _compare_model(
    subject: Subject, options: Options, found: dict[str, Any]
) -> list[dict[str, Any]]:
    own = estimate(subject.shape, subject.tensors, replace(_as_planned(options), draft=None))
    buffers = found["buffers"].values()
    if not buffers:  # the breakdown is readable on Linux only; the log's KV sizes everywhere
        return [_row("KV cache", own.kv_bytes, sum(c["bytes"] for c in found["kv"]))]
    compute = sum(t.nbytes for t in own.terms if t.name == "compute")
    return [
        _row("weights", own.weights_bytes, sum(b["model"] for b in buffers)),
        _row("KV cache", own.kv_bytes, sum(b["context"] for b in buffers)),
        _row("compute", compute, sum(b["compute"] for b in buffers)),
    ]


def _compare_draft_model(
    subject: Subject, options: Options, buffers: dict[str, dict[str, int]]
) -> list[dict[str, Any]]:
    if not buffers or options.draft is None:
        return []
    terms = estimate(subject.shape, (), _as_planned(options)).terms
    weights = sum(t.nbytes for t in terms if t.name == "drafter")
    compute = draft_compute_bytes(options.draft, subject.shape, options)
    found = buffers.values()
    return [
        _row("drafter", weights, sum(b["model"] for b in found)),
        _row("drafter's compute", compute, sum(b["compute"] for b in found)),
    ]


def _as_planned(options: Options) -> Options:
    """Return `options` as llama.cpp plans memory: nothing is mapped, nothing stays on the disk."""
    return replace(options, mmap=False, lazy_ple=False)


def _row(term: str, estimated: int, reported: int) -> dict[str, Any]:
    return {"term": term, "estimate": estimated, "llama_cpp": reported}
