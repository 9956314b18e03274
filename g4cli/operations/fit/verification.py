"""Compare g4's estimate with llama.cpp's own memory figures, for `g4 fit --verify`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import UsageError
from g4cli.core.quoting import shell_command
from g4cli.core.units import MIB
from g4cli.estimate import Draft, Options, estimate_memory
from g4cli.estimate.draft import draft_compute_bytes
from g4cli.operations.fit.subject import Subject
from g4cli.runtime.probes.memory import describe_run, probe_in_child

_LOG_PRECISION: Final = 0.005 * MIB  # llama.cpp logs MiB with two digits


def compare_with_llama_cpp(
    subject: Subject, options: Options, draft_path: Path | None = None
) -> dict[str, Any]:
    """Return g4's and llama.cpp's figures in bytes: {"library", "equal", "rows": [...]}.

    A row is {"term", "estimate", "llama_cpp", "equal"}. Weights are the bytes of all tensors,
    without padding and copies. The other figures are from llama.cpp's log, which rounds each to
    0.01 MiB: they count as equal if that rounding explains the difference. `draft_path` is the file
    of the draft model. Raises UsageError if the subject is not a file on this disk or llama.cpp
    refuses the options, RuntimeFailed if it fails.
    """
    if subject.path is None:
        raise UsageError(
            f"{subject.name}: --verify needs a file",
            hint=shell_command("g4", "pull", subject.name),
        )
    answer = probe_in_child(
        subject.path, [{**describe_run(options), "draft": str(draft_path or "")}]
    )
    (planned,) = answer["runs"]
    if "error" in planned:
        raise UsageError(
            f"llama.cpp refuses these settings: {planned['error']}", hint="g4 fit --help"
        )
    rows = _compare_model(subject, options, planned)
    if "draft" in planned and options.draft:
        rows += _compare_draft_model(subject, options, options.draft, planned["draft"])
    equal = all(row["equal"] for row in rows)
    return {"library": answer["library"], "equal": equal, "rows": rows}


def _compare_model(
    subject: Subject, options: Options, planned: dict[str, Any]
) -> list[dict[str, Any]]:
    # llama.cpp's plan maps nothing and leaves nothing on the disk.
    as_planned = replace(options, mmap=False, lazy_ple=False, draft=None)
    own = estimate_memory(subject.shape, subject.tensors, as_planned)
    compute = sum(t.nbytes for t in own.terms if t.name == "compute buffer")
    weights = sum(t.nbytes for t in subject.tensors)
    return [
        _compare_term("weights", weights, [planned["weights"]], precision=0),
        _compare_term("KV cache", own.kv_bytes, [cache["bytes"] for cache in planned["kv"]]),
        _compare_term("compute buffer", compute, planned["compute"].values()),
    ]


def _compare_draft_model(
    subject: Subject, options: Options, draft: Draft, planned: dict[str, Any]
) -> list[dict[str, Any]]:
    weights = sum(t.nbytes for t in draft.tensors)
    compute = draft_compute_bytes(draft, subject.shape, options)
    return [
        _compare_term("draft model", weights, [planned["weights"]], precision=0),
        _compare_term("draft model buffers", compute, planned["compute"].values()),
    ]


def _compare_term(
    term: str, estimated: int, reported: Collection[int], precision: float = _LOG_PRECISION
) -> dict[str, Any]:
    """Return a row; `reported` are llama.cpp's figures, each known within `precision` bytes."""
    total = sum(reported)
    equal = abs(estimated - total) <= precision * len(reported)
    return {"term": term, "estimate": estimated, "llama_cpp": total, "equal": equal}
