"""Are the numbers numbers, and could they be weights? Zeros, NaN, wild scales, RoPE table, norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from g4cli.core.inventory import OUTPUT, PER_LAYER_TOKEN_EMBD, ROPE_FREQS, TOKEN_EMBD
from g4cli.doctor.checks.file import AGAIN
from g4cli.doctor.facts.tensor_scan import PAGE, TensorStats
from g4cli.doctor.report import Check, Outcome, counted, fail, ok, skipped

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import FileFacts

# Rows of tokens that never occurred in training may be zero in an honest file.
_TABLES: Final = (TOKEN_EMBD, PER_LAYER_TOKEN_EMBD, OUTPUT)
RECONVERT: Final = "get another file (g4 pull MODEL) or convert it again (g4 convert DIR)"
FIX: Final = "g4 doctor FILE --fix OUT"
# No weight of a published network comes near (norms reach hundreds); a shifted or random scale does.
_WILD_MATRIX: Final = 1e4
_WILD_VECTOR: Final = 1e6
_ABSURD: Final = 1e12
# Limits of the clipped layers of vision and audio towers (Gemma4ClippableLinear, transformers 5.23.0).
_BOUNDS: Final = ("input_min", "input_max", "output_min", "output_max")
_SCALAR_BYTES: Final = 4
_TURNING: Final = 4  # a quarter of the global heads' pairs turn (partial_rotary_factor 0.25)


# Damaged files hold any bits: numpy would warn of signalling NaNs on the screen.
_ANY_BITS: Final = np.errstate(invalid="ignore")


def check_zero(facts: FileFacts) -> Outcome:
    """Whole tensors of zeros come from a conversion, zero pages inside a tensor from a download."""
    if not facts.stats:
        return skipped("the data was not read", "g4 doctor FILE")
    empty = [s.name for s in facts.stats if s.all_zero]
    # A bias of zeros is what training began with: it takes nothing away.
    lost = [name for name in empty if not name.endswith(".bias")]
    if len(empty) == len(facts.stats) and facts.is_sparse:
        # What a placeholder of the right shape and a download that never began have in common.
        found = f"all {len(empty)} tensors are zeros that take no disk: there are no weights yet"
        return Outcome("warn", found, AGAIN, "file-damaged")
    if len(empty) == len(facts.stats):
        return fail(
            f"all {len(empty)} tensors are zeros: only the header arrived",
            AGAIN,
            cause="file-damaged",
        )
    holes = [s for s in facts.stats if s.zero_pages and not s.all_zero and s.name not in _TABLES]
    holes += [
        s
        for s in facts.stats
        if s.name in _TABLES[:2] and not s.all_zero and s.zero_pages * PAGE > s.read / 3
    ]
    if holes:
        return fail(
            _holes_text(holes, len(lost)),
            AGAIN,
            cause="file-damaged",
            confidence="high",
            detail=tuple(s.name for s in holes),
        )
    if lost:
        kinds = sorted(
            {name.split(".", 2)[2] if name.startswith("blk.") else name for name in lost}
        )
        return fail(
            f"{len(lost)} of {len(facts.stats)} tensors hold nothing but zeros: {', '.join(kinds[:4])}; "
            "those layers contribute nothing",
            "get another file (g4 pull MODEL): the weights are not in this one",
            cause="conversion-defect",
            confidence="high",
            detail=tuple(lost),
        )
    return ok(f"no zero tensors, no zero pages in {len(facts.stats)} tensors")


def _holes_text(holes: list[TensorStats], n_empty: int) -> str:
    pages = sum(s.zero_pages for s in holes)
    more = f", and {counted(n_empty, 'more tensor')} all zero" if n_empty else ""
    return (
        f"{pages:,} pages of {PAGE} zero bytes inside {counted(len(holes), 'tensor')}, first in "
        f"{holes[0].name} at byte {holes[0].first_zero_page:,}{more}: parts of the file never arrived"
    )


def check_finite(facts: FileFacts) -> Outcome:
    """Look for NaN and infinity, in plain tensors and in the scales of quantised ones."""
    if not facts.stats:
        return skipped("the data was not read", "g4 doctor FILE")
    bad = [s for s in facts.stats if s.non_finite and not _is_bound(s)]
    if bad:
        count = sum(s.non_finite for s in bad)
        return fail(
            f"{count:,} numbers in {counted(len(bad), 'tensor')} are NaN or infinite, first in {bad[0].name}",
            AGAIN,
            cause="file-damaged",
            confidence="high",
            detail=tuple(s.name for s in bad),
        )
    return ok("all numbers are finite")


def _is_bound(stats: TensorStats) -> bool:
    """Return whether this is one limit of a clipped layer: infinite where training set none."""
    return stats.scales == 0 and stats.nbytes <= _SCALAR_BYTES and stats.name.endswith(_BOUNDS)


def check_scales(facts: FileFacts) -> Outcome:
    """Look for scales that no encoder writes: negative where that is impossible, or far too large."""
    if not facts.stats:
        return skipped("the data was not read", "g4 doctor FILE")
    negative = [s for s in facts.stats if s.negative]
    if negative:
        first = negative[0]
        return fail(
            f"{first.negative:,} of {first.scales:,} scales of {first.name} are negative, which "
            f"{first.type_name} never has: bytes are shifted or overwritten "
            f"({counted(len(negative), 'tensor')})",
            AGAIN,
            cause="file-damaged",
            detail=tuple(s.name for s in negative),
        )
    shapes = facts.header.tensors if facts.header is not None else {}
    wild = [
        s
        for s in facts.stats
        if s.name != ROPE_FREQS
        and s.largest
        > (_WILD_VECTOR if s.name in shapes and len(shapes[s.name].shape) == 1 else _WILD_MATRIX)
        and (s.largest > 64 * s.median or s.largest > _ABSURD)
    ]
    if wild:
        return fail(
            f"{wild[0].name} holds weights up to {wild[0].largest:.3g}, half of them above "
            f"{wild[0].median:.2g} ({counted(len(wild), 'tensor')}): bytes are shifted or overwritten",
            AGAIN,
            cause="file-damaged",
            confidence="high",
            detail=tuple(s.name for s in wild),
        )
    return ok("scales and weights have the size that weights have")


@_ANY_BITS
def check_rope(facts: FileFacts) -> Outcome:
    """The global layers turn a quarter of their pairs: 1.0 for those, 1e30 for the rest."""
    table: Any = facts.vectors.get(ROPE_FREQS)
    if facts.shape is None or table is None or not table.any():
        return skipped("no RoPE table to look at")
    n, turning = len(table), len(table) // _TURNING
    wanted = np.array([1.0] * turning + [1e30] * (n - turning), dtype=np.float32)
    if np.allclose(table, wanted, rtol=1e-3):
        return ok(f"{turning} pairs turn, {n - turning} do not")
    kinds = sorted({f"{v:.3g}" for v in table.tolist()})
    if not np.all((table > 1e-6) & (table <= 2e30)):
        return fail(
            f"{ROPE_FREQS} holds {', '.join(kinds[:3])}: bytes are shifted or overwritten",
            AGAIN,
            cause="file-damaged",
        )
    return fail(
        f"{ROPE_FREQS} must be {turning} x 1.0 and {n - turning} x 1e30, holds {', '.join(kinds[:4])}: long "
        "texts lose their order; llama.cpp does not notice",
        FIX,
        cause="conversion-defect",
    )


@_ANY_BITS
def check_norms(facts: FileFacts) -> Outcome:
    """Norm weights that are all 0 or all exactly 1 were lost on the way."""
    norms = {n: v for n, v in facts.vectors.items() if n.endswith("norm.weight") and v.size > 1}
    if facts.shape is None or not norms:
        return skipped("no norms to look at")
    lost = [n for n, v in norms.items() if bool(np.all(v == 1.0))]
    if lost and len(lost) * 2 >= len(norms):
        return fail(
            f"{len(lost)} of {len(norms)} norms are exactly 1 throughout: their weights were lost",
            RECONVERT,
            cause="conversion-defect",
            confidence="high",
            detail=tuple(lost),
        )
    return ok(f"{len(norms)} norms hold weights")


CHECKS: Final = (
    Check("weights.zero", check_zero),
    Check("weights.finite", check_finite),
    Check("weights.scales", check_scales),
    Check("weights.rope", check_rope),
    Check("weights.norms", check_norms),
)
