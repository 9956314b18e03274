"""The one screen of `g4 fit`, and the same facts as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from g4cli.core.units import size_text

if TYPE_CHECKING:
    from g4cli.cli.output import Output
    from g4cli.cli.subjects import Subject
    from g4cli.fit import Report
    from g4cli.host import HostFacts


def fit_data(subject: Subject, host: HostFacts, report: Report) -> dict[str, Any]:
    """Return the report for scripts; the first nine keys are promised."""
    found, options = report.estimate, report.options
    return {
        "model": subject.name,
        "n_ctx": options.n_ctx,
        "kv_type": options.type_k.name.lower(),
        "weights_bytes": found.weights_bytes,
        "kv_bytes": found.kv_bytes,
        "compute_bytes": found.compute_bytes,
        "total_bytes": found.total_bytes,
        "fits": report.verdict.fits,
        "reason": report.verdict.reason,
        "resident_bytes": found.resident_bytes,
        "context_reason": report.context_reason,
        "largest_ctx": report.largest_ctx,
        "n_ctx_train": subject.shape.n_ctx_train,
        "source": subject.source,
        "terms": [asdict(term) for term in found.terms],
        "contexts": [
            {"n_ctx": n_ctx, "total_bytes": total, "fits": fits} for n_ctx, total, fits in report.by_context
        ],
        "host": {
            "total_bytes": host.total_bytes,
            "available_bytes": host.available_bytes,
            "limited_by": host.limited_by,
        },
    }


def render_fit(out: Output, subject: Subject, host: HostFacts, report: Report) -> None:
    """Draw the terms, the contexts and the verdict."""
    options, found = report.options, report.estimate
    kind = options.type_k.name.lower()
    out.line(f"{subject.name}, {report.context_reason}, KV cache {kind} (from {subject.source})")
    rows = [
        (
            t.name,
            t.device,
            f"({size_text(t.nbytes)})" if t.group in ("disk", "cache") else size_text(t.nbytes),
            t.note,
        )
        for t in found.terms
    ]
    rows.append(("total", "", size_text(found.total_bytes), f"{found.total_bytes:,} bytes"))
    out.table(("term", "device", "memory", ""), rows, right=(2,))
    cells = [
        (f"{n_ctx:,}", size_text(total), "fits" if fits else "does not fit")
        for n_ctx, total, fits in report.by_context
    ]
    out.table(("context", "total", "here"), cells, right=(0, 1))
    limit = "" if host.limited_by == "memory" else f", limited by {host.limited_by}"
    out.line(f"This machine: {size_text(host.total_bytes)}{limit}, {size_text(host.available_bytes)} free.")
    word = "Fits" if report.verdict.fits else "Does not fit"
    out.line(f"{word}: {report.verdict.reason}.", style="green" if report.verdict.fits else "red")
