"""What `g4 quantize` shows: the plan before, the result after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from g4cli.core.units import duration_text, size_text

if TYPE_CHECKING:
    from g4cli.cli.output import Output
    from quant.file import Quantized
    from quant.metrics import Diff
    from quant.plan import Planned


def draw_plan(out: Output, planned: Planned) -> None:
    """Draw the table of a dry run."""
    out.table(
        ("tensors", "", "from", "to", "before", "after", "why"),
        [
            (g.names, g.count, g.source, g.type, size_text(g.before), size_text(g.after), g.reason)
            for g in planned.groups()
        ],
        right=(1, 4, 5),
    )
    before, after = size_text(planned.source_bytes), size_text(planned.nbytes)
    out.line(f"{before} -> {after}, {planned.bits_per_weight:.2f} bits per weight; nothing was written")


def draw_diff(out: Output, diff: Diff) -> None:
    """Draw how far two files are apart, the worst kind of tensor first."""
    rows = [
        (
            row.name,
            row.before,
            row.after,
            f"{row.error.snr_db:.1f}",
            f"{row.error.rmse:.2e}",
            f"{row.error.largest:.2e}",
            f"{row.error.cosine:.6f}",
            f"{row.error.n_lost:,}",
        )
        for row in diff.groups()
    ]
    if rows:
        columns = ("tensors", "from", "to", "SNR dB", "RMSE", "max error", "cosine", "became 0")
        out.table(columns, rows, right=range(3, 8))
    total = diff.total
    if total.noise:
        figures = f"{total.snr_db:.2f} dB, cosine {total.cosine:.6f}, RMSE {total.rmse:.2e}"
        out.line(f"all {total.n:,} weights that changed: {figures}")
    else:
        out.line(f"all {total.n:,} weights have the same values")
    if total.n_bad:
        out.line(f"{total.n_bad:,} weights are NaN or infinite and were left out", style="red")
    if diff.only:
        out.line(f"{len(diff.only)} tensors are in one of the files only, {diff.only[0]} for one")


def draw_result(out: Output, done: Quantized) -> None:
    """Draw the one line of a finished file, and below it what one should know."""
    share = done.nbytes / done.source_bytes
    out.line(
        f"{done.path}  {done.type}  {size_text(done.nbytes)} ({share:.0%} of the source) "
        f"in {duration_text(done.seconds)}"
    )
    for note in done.notes():
        out.say(note)
