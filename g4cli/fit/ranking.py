"""Rank the types of a model for one machine, and choose one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from g4cli.core.gguf_header import TensorSpec
from g4cli.core.shape import Shape
from g4cli.core.units import count_text
from g4cli.estimate import Options
from g4cli.fit.context import largest_context, try_options
from g4cli.fit.memory import Memory


@dataclass(frozen=True, slots=True)
class TypeVariant:
    """A model in one type: its tensors, and the options to run it with."""

    type: str
    tensors: Sequence[TensorSpec]
    options: Options


@dataclass(frozen=True, slots=True)
class TypeRow:
    """A type of a model. `total_bytes` is the memory needed with the context of the ranking.

    `disk_bytes` of its weights stay on the disk and are read when needed.
    """

    type: str
    weights_bytes: int
    total_bytes: int
    fits: bool
    largest_ctx: int
    disk_bytes: int


@dataclass(frozen=True, slots=True)
class TypeRanking:
    """Types with a context of `n_ctx` tokens, the one with the most bytes of weights first.

    `best` is the type to take, "" if none fits; `reason` says why, or that none does.
    """

    n_ctx: int
    types: tuple[TypeRow, ...]
    best: str
    reason: str


def rank_types(
    shape: Shape,
    variants: Iterable[TypeVariant],
    memories: Sequence[Memory],
    *,
    n_ctx: int,
    trained_for: str = "",
) -> TypeRanking:
    """Return the ranking of `variants` with `n_ctx` tokens, and the type to choose.

    The best is the largest that fits, which is the most precise one if the caller has left out
    types that are larger and less precise than another, as Q4_1 is beside Q4_K_M (drop_dominated in
    g4cli.operations.fit.ranking; a table of all types needs no choice). `trained_for` names a type
    that the publisher trained the model for: it loses almost nothing by being small, and decoding
    is faster the fewer bytes are read, so it is preferred to larger types.
    """
    rows = []
    for variant in variants:
        options = replace(variant.options, n_ctx=n_ctx)
        trial = try_options(shape, variant.tensors, options, memories)
        rows.append(
            TypeRow(
                variant.type,
                sum(t.nbytes for t in variant.tensors) + options.unlisted_weight_bytes,
                trial.estimate.total_bytes,
                trial.verdict.fits,
                largest_context(shape, variant.tensors, options, memories),
                trial.estimate.sum_bytes(group="disk"),
            )
        )
    rows.sort(key=lambda row: -row.weights_bytes)
    best, reason = _choose_type([row.type for row in rows if row.fits], n_ctx, trained_for)
    return TypeRanking(n_ctx, tuple(rows), best, reason)


def _choose_type(fitting: Sequence[str], n_ctx: int, trained_for: str) -> tuple[str, str]:
    """Return the type to choose and the reason; `fitting` starts with the largest type."""
    context = count_text(n_ctx, "token")
    if not fitting:
        return "", f"none fits with {context}"
    best, *others = fitting
    if trained_for in others:
        reason = (
            f"{trained_for}: the model was trained for it; smaller is faster; "
            f"{best} is the most precise that fits with {context}"
        )
        return trained_for, reason
    following = f"; next: {others[0]}" if others else ""
    return best, f"{best}: the most precise that fits with {context}{following}"
