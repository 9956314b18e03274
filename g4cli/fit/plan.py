"""The plan for one network on one machine: context, placement, memory, and a table of contexts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from g4cli.core.gguf_header import TensorSpec
from g4cli.core.shape import Shape
from g4cli.estimate import Options
from g4cli.fit.context import CONTEXTS, Trial, largest_context, plan_context, try_options
from g4cli.fit.memory import Memory


@dataclass(frozen=True, slots=True)
class ContextRow:
    """A context size, the memory that a run with it needs on all devices, and whether it fits."""

    n_ctx: int
    total_bytes: int
    fits: bool


@dataclass(frozen=True, slots=True)
class FitPlan(Trial):
    """What runs, what it needs and whether it fits, and other contexts.

    `context_reason` says in words why the context was chosen. `largest_ctx` is the largest context
    that fits, or 0. `contexts` are the common contexts up to the model's own.
    """

    context_reason: str
    largest_ctx: int
    contexts: tuple[ContextRow, ...]


def plan_fit(
    shape: Shape,
    tensors: Sequence[TensorSpec],
    options: Options,
    memories: Sequence[Memory],
    *,
    context_choice: Literal["given", "auto", "max"] = "given",
) -> FitPlan:
    """Return the plan for `options` on the devices `memories`.

    `context_choice` decides the context: "given" takes the one of `options`, "auto" the one that
    `g4 chat` would open, "max" the largest that fits.
    """
    largest = largest_context(shape, tensors, options, memories)
    reason = f"context {options.n_ctx:,}: as requested"
    if context_choice == "auto":
        context = plan_context(shape, tensors, options, memories)
        options, reason = replace(options, n_ctx=context.n_ctx), context.reason
    elif context_choice == "max":
        n_ctx = largest or min(CONTEXTS[0], shape.n_ctx_train)
        reason = (
            f"context {n_ctx:,}: the largest that fits"
            if largest
            else f"no context fits; the figures are for {n_ctx:,} tokens"
        )
        options = replace(options, n_ctx=n_ctx)
    trial = try_options(shape, tensors, options, memories)
    rows = []
    for n_ctx in sorted({*(c for c in CONTEXTS if c < shape.n_ctx_train), shape.n_ctx_train}):
        other = try_options(shape, tensors, replace(options, n_ctx=n_ctx), memories)
        rows.append(ContextRow(n_ctx, other.estimate.total_bytes, other.verdict.fits))
    return FitPlan(
        trial.options,
        trial.estimate,
        trial.verdict,
        trial.placement,
        trial.chat_option,
        context_reason=reason,
        largest_ctx=largest,
        contexts=tuple(rows),
    )
