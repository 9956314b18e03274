"""The result of `g4 imatrix`: as text and as JSON."""

from __future__ import annotations

from typing import Any

from g4cli.cli.output import Output
from g4cli.core.units import count_text, duration_text, size_text
from g4cli.operations.imatrix import ImatrixMade


def imatrix_to_json(made: ImatrixMade) -> dict[str, Any]:
    """Return the document of `g4 imatrix --json`. Schema: docs/reference/schemas/imatrix.json."""
    report = made.report
    return {
        "path": str(made.path),
        "bytes": made.nbytes,
        "datasets": list(report.datasets),
        "chunk_size": report.n_ctx,
        "chunks_total": report.n_total_chunks,
        "chunks": report.n_chunks,
        "chunks_resumed": report.n_resumed,
        "matrices": report.n_matrices,
        "experts": report.n_experts,
        "experts_unused": report.n_unused_experts,
        "seconds": round(report.seconds, 3),
        "peak_memory_bytes": report.peak_bytes,
    }


def draw_imatrix(out: Output, made: ImatrixMade) -> None:
    """Draw what was made, from what, and how long it took."""
    report = made.report
    out.line(f"{made.path}  {size_text(made.nbytes)}")
    out.line(f"  {report.n_matrices:,} matrices; text: {', '.join(dict.fromkeys(report.datasets))}")
    if report.n_chunks:
        evaluated = report.n_chunks - report.n_resumed
        resumed = f" ({report.n_resumed:,} more were done before)" if report.n_resumed else ""
        speed = evaluated * report.n_ctx / report.seconds if report.seconds else 0.0
        out.line(
            f"  {count_text(evaluated, 'chunk')} of {report.n_ctx:,} tokens{resumed} in "
            f"{duration_text(report.seconds)}, {speed:,.0f} tokens a second, "
            f"peak memory {size_text(report.peak_bytes)}"
        )
    if report.n_total_chunks != report.n_chunks:  # --in-file: files were added
        chunks = count_text(report.n_total_chunks, "chunk")
        out.line(f"  {chunks} of {report.n_ctx:,} tokens together")
    if report.n_unused_experts:
        out.warn(
            f"{report.n_unused_experts:,} of {report.n_experts:,} expert matrices got no token: "
            "their columns are weighted equally; a longer text reaches more of them"
        )
