"""Everything that `g4 fit` says about one network on one machine, and about its other types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from g4cli.core.shape import Shape
from g4cli.estimate import Estimate, Options, Tensor
from g4cli.fit.context import CONTEXTS, attempt, largest_context, plan_context
from g4cli.fit.memory import Memory, Verdict


@dataclass(frozen=True, slots=True)
class ContextRow:
    """One context: what it takes in all, and whether it fits."""

    n_ctx: int
    total_bytes: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Report:
    """The answer for one network; `context_reason` and `placement` say how it was chosen."""

    options: Options
    context_reason: str
    placement: str
    chat_option: str
    estimate: Estimate
    verdict: Verdict
    largest_ctx: int
    contexts: tuple[ContextRow, ...]


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One type of a model; `total_bytes` are those at the context of the ranking.

    `disk_bytes` of the weights stay on the disk until they are looked at.
    """

    type: str
    weights_bytes: int
    total_bytes: int
    fits: bool
    largest_ctx: int
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Advice:
    """Which type to take with `n_ctx` tokens, why, and what comes next; `types`: the most precise first."""

    n_ctx: int
    types: tuple[TypeRow, ...]
    best: str
    reason: str


def report(
    shape: Shape,
    tensors: Sequence[Tensor],
    options: Options,
    memories: Sequence[Memory],
    *,
    choose: str = "asked",
) -> Report:
    """Return the report for `options`; `choose` "" plans the context, "max" takes the largest that fits."""
    largest = largest_context(shape, tensors, options, memories)
    reason = f"context {options.n_ctx:,}: as asked for"
    if choose == "":
        plan = plan_context(shape, tensors, options, memories)
        options, reason = replace(options, n_ctx=plan.n_ctx), plan.reason
    elif choose == "max":
        n_ctx = largest or min(CONTEXTS[0], shape.n_ctx_train)
        reason = f"context {n_ctx:,}: " + (
            "the largest that fits" if largest else "none fits, this is small"
        )
        options = replace(options, n_ctx=n_ctx)
    found = attempt(shape, tensors, options, memories)
    rows = []
    for n_ctx in sorted({*(c for c in CONTEXTS if c < shape.n_ctx_train), shape.n_ctx_train}):
        other = attempt(shape, tensors, replace(options, n_ctx=n_ctx), memories)
        rows.append(ContextRow(n_ctx, other.estimate.total_bytes, other.verdict.fits))
    return Report(
        found.options,
        reason,
        found.placement,
        found.chat_option,
        found.estimate,
        found.verdict,
        largest,
        tuple(rows),
    )


def rank_types(
    shape: Shape,
    variants: Iterable[tuple[str, Sequence[Tensor]]],
    options_for: Callable[[Sequence[Tensor]], Options],
    memories: Sequence[Memory],
    *,
    n_ctx: int,
    trained_for: str = "",
) -> Advice:
    """Return every type beside this machine's memory, the most precise first, and which one to take.

    The most precise that holds `n_ctx` tokens is the best; `trained_for` names a type that the publisher
    trained the model for, which costs it almost nothing: it wins over larger ones, being faster too.
    """
    rows = []
    for name, tensors in variants:
        options = replace(options_for(tensors), n_ctx=n_ctx)
        found = attempt(shape, tensors, options, memories)
        most = largest_context(shape, tensors, options, memories)
        rows.append(
            TypeRow(
                name,
                sum(t.nbytes for t in tensors),
                found.estimate.total_bytes,
                found.verdict.fits,
                most,
                found.estimate.sum(group="disk"),
            )
        )
    rows.sort(key=lambda row: -row.weights_bytes)
    return Advice(n_ctx, tuple(rows), *_choice([r for r in rows if r.fits], n_ctx, trained_for))


def _choice(fitting: Sequence[TypeRow], n_ctx: int, trained_for: str) -> tuple[str, str]:
    if not fitting:
        return "", f"no type fits with {n_ctx:,} tokens: take a smaller model"
    best, others = fitting[0], [row.type for row in fitting[1:]]
    following = f"; next: {others[0]}" if others else ""
    reason = f"{best.type}: the most precise that fits with {n_ctx:,} tokens{following}"
    if trained_for and trained_for in others:
        reason = (
            f"{trained_for}: the model was trained for it, and the smaller the faster; "
            f"{best.type} is the most precise that fits with {n_ctx:,} tokens"
        )
        return trained_for, reason
    return best.type, reason
