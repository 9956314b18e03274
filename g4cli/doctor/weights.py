"""Are the numbers numbers? Zero pages, zero tensors, NaN."""

from __future__ import annotations

from typing import Final

from g4cli.core.inventory import OUTPUT, PER_LAYER_TOKEN_EMBD, TOKEN_EMBD
from g4cli.doctor.facts import FileFacts
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped
from g4cli.doctor.structure import AGAIN
from g4cli.doctor.weights_scan import PAGE, TensorStats

# Rows of tokens that never occurred in training may be zero in an honest file.
_TABLES: Final = (TOKEN_EMBD, PER_LAYER_TOKEN_EMBD, OUTPUT)


def check_zero(facts: FileFacts) -> Outcome:
    """Whole tensors of zeros come from a conversion, zero pages inside a tensor from a download."""
    if not facts.stats:
        return skipped("the data was not read")
    empty = [s.name for s in facts.stats if s.all_zero]
    holes = [s for s in facts.stats if s.zero_pages and not s.all_zero and s.name not in _TABLES]
    if holes:
        return fail(_holes_text(holes, len(empty)), AGAIN, cause="file-damaged", confidence="high",
                    detail=tuple(s.name for s in holes))  # fmt: skip
    if empty:
        kinds = sorted({name.split(".", 2)[2] if name.startswith("blk.") else name for name in empty})
        return fail(
            f"{len(empty)} of {len(facts.stats)} tensors hold nothing but zeros: {', '.join(kinds[:4])}; "
            "those layers contribute nothing",
            "get another file (g4 pull MODEL): the weights are not in this one",
            cause="conversion-defect",
            confidence="high",
            detail=tuple(empty),
        )
    return ok(f"no zero tensors, no zero pages in {len(facts.stats)} tensors")


def _holes_text(holes: list[TensorStats], n_empty: int) -> str:
    pages = sum(s.zero_pages for s in holes)
    more = f", and {n_empty} tensors are all zero" if n_empty else ""
    return (
        f"{pages:,} pages of {PAGE} zero bytes inside {len(holes)} tensors, first in {holes[0].name} at byte "
        f"{holes[0].first_zero_page:,}{more}: parts of the file never arrived"
    )


def check_finite(facts: FileFacts) -> Outcome:
    """Look for NaN and infinity in plain tensors."""
    if not facts.stats:
        return skipped("the data was not read")
    bad = [s for s in facts.stats if s.non_finite]
    if bad:
        count = sum(s.non_finite for s in bad)
        return fail(
            f"{count:,} numbers in {len(bad)} tensors are NaN or infinite, first in {bad[0].name}",
            AGAIN,
            cause="file-damaged",
            confidence="high",
            detail=tuple(s.name for s in bad),
        )
    return ok("all numbers are finite")


CHECKS: Final = (Check("weights.zero", check_zero), Check("weights.finite", check_finite))
