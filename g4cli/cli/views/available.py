"""Draw `g4 list --available`: what can be pulled, its size, and whether it fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from g4cli.core.units import size_text

if TYPE_CHECKING:
    from g4cli.cli.output import Output
    from g4cli.operations.fit.available import AvailableModel


def draw_available(out: Output, rows: Sequence[AvailableModel]) -> None:
    """Draw one line for each type of each model, and how to get one."""
    n_ctx = max(row.n_ctx for row in rows)
    table = [
        (
            row.name + (" (default)" if row.is_default else ""),
            row.title,
            size_text(row.download_bytes),
            "✓ fits" if row.fits else "✗ does not fit",
            "pulled" if row.is_here else "",
        )
        for row in rows
    ]
    out.table(("model", "", "size", f"with {n_ctx:,} tokens", ""), table, right=(2,))
    out.line("Each model also comes as a base model: e2b-base. Other types are made on this")
    out.line("machine: g4 pull MODEL:TYPE. Repositories on the hub: g4 pull OWNER/REPO.")
    out.say("to choose one: g4 fit")
