"""How long a context this machine can hold, and which one a chat should open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from g4cli.core.shape import Shape
from g4cli.core.units import size_text
from g4cli.estimate import CTX_PAD, HOST, Estimate, Options, Tensor, estimate
from g4cli.fit.memory import Memory, Verdict, verdict
from g4cli.fit.placement import place

COMMON_CTX: Final = 32768
"""The context with which types and models are compared when none is asked for."""

CONTEXTS: Final = (4096, 8192, 16384, 32768, 65536, 131072, 262144)
"""Contexts shown beside each other."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of options tried on this machine, with its layers laid out."""

    options: Options
    estimate: Estimate
    verdict: Verdict
    placement: str
    chat_option: str


def attempt(
    shape: Shape, tensors: Sequence[Tensor], options: Options, memories: Sequence[Memory]
) -> Trial:
    """Return what `options` take here and whether that fits, the layers laid out as well as they can be."""
    laid = place(shape, tensors, options, memories)
    gpus = tuple(m.name for m in memories if m.name != HOST)
    found = estimate(shape, tensors, laid.options, gpus)
    return Trial(laid.options, found, verdict(found, memories), laid.reason, laid.chat_option)


def largest_context(
    shape: Shape, tensors: Sequence[Tensor], options: Options, memories: Sequence[Memory]
) -> int:
    """Return the largest context that fits with the margin kept: a multiple of 256, or 0 if none does.

    Memory grows with the context, so halving finds the border.
    """

    def fits(n_ctx: int) -> bool:
        return attempt(shape, tensors, replace(options, n_ctx=n_ctx), memories).verdict.fits

    if fits(shape.n_ctx_train):
        return shape.n_ctx_train
    low, high = 1, -(-shape.n_ctx_train // CTX_PAD)  # low fits, high does not
    if not fits(min(CTX_PAD, shape.n_ctx_train)):
        return 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * CTX_PAD) else (low, middle)
    return low * CTX_PAD


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """The context to open, and why that one."""

    n_ctx: int
    reason: str


def plan_context(
    shape: Shape, tensors: Sequence[Tensor], options: Options, memories: Sequence[Memory]
) -> ContextPlan:
    """Return the context that `g4 chat` opens when none is asked for: the model's own, or what fits of it.

    On GPUs it is as long as the layers stay where COMMON_CTX tokens leave them: a long context that nobody
    asked for must not push layers into host memory, where they are slow. If nothing fits, the smallest
    sensible one, and the reason says so: the caller decides.
    """
    most = largest_context(shape, tensors, options, memories)
    if most > COMMON_CTX and any(m.name != HOST for m in memories):
        laid = attempt(shape, tensors, replace(options, n_ctx=COMMON_CTX), memories).options
        there = largest_context(shape, tensors, replace(laid, fixed_layout=True), memories)
        if there < most:
            reason = f"context {there:,}: the largest without moving more to host memory; {most:,} with it"
            return ContextPlan(there, reason)
    margin = size_text(min((m.margin_bytes for m in memories), default=0))
    if most == shape.n_ctx_train:
        return ContextPlan(most, f"context {most:,}: all that the model was made for")
    if most:
        return ContextPlan(most, f"context {most:,}: the largest that leaves {margin} free")
    smallest = min(CONTEXTS[0], shape.n_ctx_train)
    return ContextPlan(
        smallest, f"context {smallest:,}: no context fits; the smallest sensible one"
    )
