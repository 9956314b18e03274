"""Draw what `g4 quantize` planned or wrote, and the quantization error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from g4cli.cli.output import Output
from g4cli.core.units import count_text, duration_text, size_text
from g4cli.quant.plan import Planned

if TYPE_CHECKING:  # both import numpy, which a plan does not need
    from g4cli.quant.file import Quantized
    from g4cli.quant.metrics import Diff


def draw_plan(out: Output, planned: Planned) -> None:
    """Draw the plan of a dry run: one row for each kind of tensor, then the sizes."""
    out.table(
        ("tensors", "", "from", "to", "before", "after", "why"),
        [
            (
                g.kind,
                g.count,
                g.source,
                g.type,
                size_text(g.bytes_before),
                size_text(g.bytes_after),
                g.reason,
            )
            for g in planned.group_by_kind()
        ],
        right=(1, 4, 5),
        whole=range(6),
    )
    before, after = size_text(planned.source_bytes), size_text(planned.nbytes)
    out.line(
        f"{before} -> {after}, {planned.bits_per_weight:.2f} bits per weight; nothing was written"
    )


def draw_diff(out: Output, diff: Diff) -> None:
    """Draw the error of one file against another, the worst kind of tensor first."""
    groups = diff.group_by_kind()
    # Without this column, needed only if the types before differ, the table fits 80 columns.
    before = ("from",) if len({row.before for row in groups}) > 1 else ()
    rows = [
        (
            row.name,
            *(row.before for _ in before),
            row.after,
            f"{row.error.snr_db:.1f}",
            f"{row.error.rmse:.2e}",
            f"{row.error.largest:.2e}",
            f"{row.error.cosine:.6f}",
            _format_share(row.error.n_lost, row.error.n),
        )
        for row in groups
    ]
    if rows:
        columns = ("tensors", *before, "to", "SNR dB", "RMSE", "largest", "cosine", "zeroed")
        numbers = range(len(columns) - 5, len(columns))
        out.table(columns, rows, right=numbers, whole=(0, *numbers))
    total = diff.total
    if total.noise:
        figures = f"{total.snr_db:.2f} dB, cosine {total.cosine:.6f}, RMSE {total.rmse:.2e}"
        out.line(f"all {total.n:,} weights that changed: {figures}")
    else:
        out.line(f"all {total.n:,} weights have the same values")
    if total.n_bad:
        bad = count_text(total.n_bad, "weight", "are")
        out.line(f"{bad} NaN or infinite, and left out", style="red")
    if diff.only:
        tensors = count_text(len(diff.only), "tensor", "are")
        out.line(f"{tensors} in only one of the files, for example {diff.only[0]}")


def _format_share(part: int, whole: int) -> str:
    return "0" if not part else "<0.01%" if part < 1e-4 * whole else f"{part / whole:.2%}"


def draw_result(out: Output, done: Quantized) -> None:
    """Draw the size and duration of a finished file, and notes about it."""
    share = done.nbytes / done.source_bytes
    out.line(
        f"{done.path}  {done.type}  {size_text(done.nbytes)} ({share:.0%} of the source) "
        f"in {duration_text(done.seconds)}"
    )
    for note in done.list_notes():
        out.say(note)
