"""Checks of tensor data: zeros, NaN, scales, RoPE table, norms, duplicates, SFP8 values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from g4cli.core.gguf_values import Array, find_data
from g4cli.core.inventory import OUTPUT, PER_LAYER_TOKEN_EMBD, ROPE_FREQS, TOKEN_EMBD
from g4cli.core.sfp8 import TABLE_KEY, decode_words, read_labels
from g4cli.core.units import count_text
from g4cli.doctor.checks.advice import (
    DOWNLOAD_AGAIN,
    EXAMINE,
    GET_ANOTHER,
    QUANTIZE_SFP8,
    RECONVERT,
    REPAIR,
)
from g4cli.doctor.facts.file_facts import FileFacts
from g4cli.doctor.facts.tensor_scan import PAGE
from g4cli.doctor.facts.tensor_stats import TensorStats
from g4cli.doctor.reference import make_rope_table
from g4cli.doctor.report import Check, Confidence, Outcome, fail, ok, skipped, warn

_fail_conversion = partial(fail, cause="conversion-defect")

# Tables with one row per token. Rows of tokens that no text ever used may be zero in a sound file.
# An output matrix is not judged by its zeros: in Gemma 4 it is a fault by itself (tensors.tied).
_TABLES: Final = (TOKEN_EMBD, PER_LAYER_TOKEN_EMBD)
# Magnitudes far above every weight of a published model (norms reach hundreds): shifted or random
# bytes have them. A tensor fails if its largest weight also stands out from its median
# (_OUTLIER_FACTOR), or is impossible by itself. Powers of ten are a choice: nothing lies near them.
_IMPLAUSIBLE_MATRIX: Final = 1e4
_IMPLAUSIBLE_VECTOR: Final = 1e6
_IMPOSSIBLE: Final = 1e12
_OUTLIER_FACTOR: Final = 64
# Limits of the clipped layers of image and audio encoders (Gemma4ClippableLinear, transformers
# 5.23.0).
_CLIP_LIMITS: Final = ("input_min", "input_max", "output_min", "output_max")
_SCALAR_BYTES: Final = 4  # one F32
# Rows that repeat another one, as a share of all, above which a matrix is broken. Unused tokens
# share one row in sound files, but they are only 2.4 % of the published vocabulary.
_MAX_REPEATED: Final = 1 / 3
# Share of zero pages above which a table of _TABLES is damaged: rows of unused tokens are fewer.
_MAX_ZEROS: Final = 1 / 3
# The types that hold SFP8 values; a label names one of them.
_SFP8_CONTAINERS: Final = ("I8", "BF16", "F32")

# Damaged files hold any bits: numpy would print a warning about signaling NaNs.
_IGNORE_NAN: Final = np.errstate(invalid="ignore")


def check_zero(facts: FileFacts) -> Outcome:
    """Fail for tensors of zeros (a faulty conversion) and for zero pages (a faulty download).

    A page is what a file system writes at once: a write that was lost leaves whole pages of zeros.
    """
    if not facts.stats:
        return _not_read()
    empty = [s.name for s in facts.stats if s.all_zero]
    if len(empty) == len(facts.stats):
        if facts.is_sparse:
            # A placeholder of the right shape, or a download that never began.
            return warn(
                f"all {len(empty)} tensors are zeros that use no disk space: "
                "there are no weights yet",
                DOWNLOAD_AGAIN,
                cause="file-damaged",
            )
        return _fail_damaged(
            f"all {len(empty)} tensors are zeros: only the header was downloaded", (), "certain"
        )
    holes = [
        s
        for s in facts.stats
        if not s.all_zero
        and s.name != OUTPUT
        and s.zero_pages * PAGE > (_MAX_ZEROS * s.read if s.name in _TABLES else 0)
    ]
    # Training may leave a bias at its initial value of zero.
    lost = [name for name in empty if not name.endswith(".bias")]
    if holes:
        return _fail_damaged(_describe_holes(holes, len(lost)), holes)
    if lost:
        kinds = sorted({re.sub(r"^blk\.\d+\.", "", name) for name in lost})
        return _fail_conversion(
            f"{count_text(len(lost), 'tensor', 'contain', of=len(facts.stats))} only zeros: "
            f"{', '.join(kinds[:4])}; those layers have no effect",
            GET_ANOTHER,
            confidence="high",
            detail=tuple(lost),
        )
    return ok(f"no zero tensors, no zero pages in {count_text(len(facts.stats), 'tensor')}")


def _describe_holes(holes: list[TensorStats], n_empty: int) -> str:
    """Return what is missing: zero pages in the tensors `holes`, and `n_empty` whole tensors."""
    pages = sum(s.zero_pages for s in holes)
    more = f", and {count_text(n_empty, 'more tensor')} all zero" if n_empty else ""
    return (
        f"{count_text(pages, 'page')} of {PAGE} zero bytes inside "
        f"{count_text(len(holes), 'tensor')}, first in {holes[0].name} at byte "
        f"{holes[0].first_zero_page:,}{more}: "
        "parts of the file were not downloaded"
    )


def check_finite(facts: FileFacts) -> Outcome:
    """Fail for NaN and infinity in plain tensors and in scales of quantized ones."""
    if not facts.stats:
        return _not_read()
    bad = [s for s in facts.stats if s.non_finite and not _is_clip_limit(s)]
    if bad:
        count = sum(s.non_finite for s in bad)
        return _fail_damaged(
            f"NaN or infinite: {count_text(count, 'number')} in {count_text(len(bad), 'tensor')}, "
            f"first in {bad[0].name}",
            bad,
        )
    return ok("all numbers are finite")


def _is_clip_limit(stats: TensorStats) -> bool:
    """Return whether this is a limit of a clipped layer, infinite where training set none."""
    return stats.scales == 0 and stats.nbytes <= _SCALAR_BYTES and stats.name.endswith(_CLIP_LIMITS)


def check_scales(facts: FileFacts) -> Outcome:
    """Fail for scales that no encoder writes: negative ones, or far too large ones."""
    if not facts.stats:
        return _not_read()
    negative = [s for s in facts.stats if s.negative]
    if negative:
        first = negative[0]
        return _fail_damaged(
            f"{first.negative:,} of {first.scales:,} scales of {first.name} are negative, which "
            f"{first.type_name} never has: bytes are shifted or overwritten "
            f"({count_text(len(negative), 'tensor')})",
            negative,
            "certain",
        )
    vectors = {name for name, t in facts.tensors.items() if len(t.shape) == 1}
    implausible = [
        s
        for s in facts.stats
        if s.name != ROPE_FREQS
        and s.largest > (_IMPLAUSIBLE_VECTOR if s.name in vectors else _IMPLAUSIBLE_MATRIX)
        and (s.largest > _OUTLIER_FACTOR * s.median or s.largest > _IMPOSSIBLE)
    ]
    if implausible:
        first = implausible[0]
        return _fail_damaged(
            f"{first.name} has weights up to {first.largest:.3g}, half of them above "
            f"{first.median:.2g} ({count_text(len(implausible), 'tensor')}): "
            "bytes are shifted or overwritten",
            implausible,
        )
    return ok("the size of scales and weights is plausible")


@_IGNORE_NAN
def check_rope(facts: FileFacts) -> Outcome:
    """Compare rope_freqs.weight with Gemma 4's: a quarter of it is 1.0, the rest 1e30."""
    table: Any = facts.vectors.get(ROPE_FREQS)
    # A table of zeros is reported by check_zero.
    if facts.shape is None or table is None or not table.any():
        return skipped("no RoPE table")
    expected = make_rope_table(len(table))
    n_rotated, n_others = expected.count(1.0), expected.count(1e30)
    if np.allclose(table, np.array(expected, dtype=np.float32), rtol=1e-3):
        return ok(f"RoPE rotates {n_rotated} pairs and leaves {n_others}")
    kinds = sorted({f"{v:.3g}" for v in table.tolist()})
    # The factors that a faulty converter writes lie in this range (a choice, around 1 and 1e30); of
    # bytes that were shifted or overwritten some do not.
    if not np.all((table > 1e-6) & (table <= 2e30)):
        found = f"{ROPE_FREQS} holds {', '.join(kinds[:3])}: bytes are shifted or overwritten"
        return _fail_damaged(found, (), "certain")
    return _fail_conversion(
        f"{ROPE_FREQS} must be {n_rotated} x 1.0 and {n_others} x 1e30, "
        f"holds {', '.join(kinds[:4])}: positions in long texts are wrong, "
        "and llama.cpp does not notice",
        REPAIR,
    )


@_IGNORE_NAN
def check_norms(facts: FileFacts) -> Outcome:
    """Fail if at least half of the norms are exactly 1: their weights were lost.

    No training leaves them so.
    """
    norms = {n: v for n, v in facts.vectors.items() if n.endswith("norm.weight") and v.size > 1}
    if not norms or (facts.shape is None and not facts.is_other_model):
        return skipped("no norms")
    lost = [n for n, v in norms.items() if bool(np.all(v == 1.0))]  # 1 is what training starts with
    if lost and len(lost) * 2 >= len(norms):
        return _fail_conversion(
            f"{count_text(len(lost), 'norm', 'are', of=len(norms))} exactly 1 throughout: "
            "the weights were lost",
            RECONVERT,
            confidence="high",
            detail=tuple(lost),
        )
    return ok(f"{len(norms)} norms have weights")


def check_duplicates(facts: FileFacts) -> Outcome:
    """Fail for rows and tensors that occur twice."""
    if not facts.stats:
        return _not_read()
    if facts.equal_tensors:
        one, two = facts.equal_tensors[0]
        count = len(facts.equal_tensors)
        more = f" ({count} such pairs)" if count > 1 else ""
        return _fail_conversion(
            f"{two} has the same bytes as {one}{more}: a layer was written twice, and another one "
            "is missing",
            RECONVERT,
            confidence="high",
            detail=tuple(f"{a} = {b}" for a, b in facts.equal_tensors),
        )
    blocks = [s for s in facts.stats if s.repeated.block_rows]
    if blocks:
        s = max(blocks, key=lambda s: s.repeated.block_rows)
        return _fail_damaged(
            f"{s.repeated.block_rows:,} rows of {s.name} from row {s.repeated.second:,} on repeat "
            f"those from row {s.repeated.first:,} on: a part was written twice, and another one is "
            "missing",
            blocks,
        )
    return _judge_repeated_rows(facts)


def _judge_repeated_rows(facts: FileFacts) -> Outcome:
    """Return the outcome of single rows that repeat, without a copied block among them."""
    repeated = [
        s
        for s in facts.stats
        if not s.all_zero and s.repeated.n_repeated > _MAX_REPEATED * s.repeated.rows > 0
    ]
    if not repeated:
        rows = sum(s.repeated.rows for s in facts.stats)
        n_repeated = sum(s.repeated.n_repeated for s in facts.stats)
        return ok(f"no duplicates: {n_repeated:,} of {rows:,} rows repeat another one")
    s = max(repeated, key=lambda s: s.repeated.n_repeated / s.repeated.rows)
    found = f"{s.repeated.n_repeated:,} of {s.repeated.rows:,} rows of {s.name} repeat another row"
    if facts.shape is None:
        return warn(found)
    return _fail_conversion(
        f"{found}: their weights were lost",
        RECONVERT,
        confidence="medium",
        detail=tuple(s.name for s in repeated),
    )


def check_sfp8(facts: FileFacts) -> Outcome:
    """Compare the label of an SFP8 file with its tensors and their values."""
    container, names = read_labels(facts.keys)
    if not container:
        return skipped("the file is not labeled SFP8")
    mislabeled = _find_mislabeled(facts, container, names)
    if mislabeled:
        return mislabeled
    if not facts.stats:
        return _not_read()
    bad = [s for s in facts.stats if s.not_sfp8]
    if bad:
        return _fail_conversion(
            f"labeled SFP8, but {len(bad)} of {len(names)} tensors contain numbers that no SFP8 "
            f"code stands for, first {bad[0].name}: another encoder wrote them, "
            "or they were changed",
            QUANTIZE_SFP8,
            confidence="high",
            detail=tuple(s.name for s in bad),
        )
    return ok(f"SFP8 in {container}: all numbers of {len(names)} tensors are SFP8 values")


def _find_mislabeled(facts: FileFacts, container: str, names: frozenset[str]) -> Outcome | None:
    """Return the failure of a label that the header contradicts, or None."""
    tensors, table = facts.tensors, find_data(facts.keys, TABLE_KEY, Array)
    other = [n for n in names if n not in tensors or tensors[n].type.name != container]
    if container not in _SFP8_CONTAINERS:
        found = f"the label says SFP8 in {container!r}, which does not exist"
        return _fail_conversion(found, QUANTIZE_SFP8)
    if other:
        return _fail_conversion(
            f"the label says SFP8 in {container}, but {len(other)} of the tensors that it names "
            f"are missing or have another type, first {min(other)}",
            QUANTIZE_SFP8,
            detail=tuple(sorted(other)),
        )
    if container == "I8" and (table is None or table.tolist() != decode_words()):
        return _fail_conversion(
            f"{TABLE_KEY} is not the table of SFP8 values: every weight would be decoded wrongly",
            QUANTIZE_SFP8,
        )
    return None


def _not_read() -> Outcome:
    return skipped("the data was not read", EXAMINE)


def _fail_damaged(
    found: str, tensors: Sequence[TensorStats], confidence: Confidence = "high"
) -> Outcome:
    """Return the failure of a file of which these tensors, if it is known which, are damaged."""
    names = tuple(s.name for s in tensors)
    return fail(found, DOWNLOAD_AGAIN, cause="file-damaged", confidence=confidence, detail=names)


CHECKS: Final = (
    Check("weights.zero", check_zero),
    Check("weights.finite", check_finite),
    Check("weights.scales", check_scales),
    Check("weights.rope", check_rope),
    Check("weights.norms", check_norms),
    Check("weights.duplicates", check_duplicates),
    Check("weights.sfp8", check_sfp8),
)
