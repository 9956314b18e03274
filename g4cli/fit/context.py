"""The largest context that fits, and the one that a chat opens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from g4cli.core.gguf_header import TensorSpec
from g4cli.core.shape import Shape
from g4cli.core.units import size_text
from g4cli.estimate import CTX_PAD, HOST, Estimate, Options, estimate_memory, is_remote
from g4cli.fit.memory import Memory, Verdict, judge_estimate
from g4cli.fit.placement import place_layers

COMMON_CTX: Final = 32768
"""The context with which types and models are compared when none is asked for: a choice."""

CONTEXTS: Final = (4096, 8192, 16384, 32768, 65536, 131072, 262144)
"""The contexts of the table that `g4 fit` shows."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Options judged for a machine, with the layers placed.

    `placement` says in words where the layers are; `chat_option` is the option of `g4 chat` for it.
    """

    options: Options
    estimate: Estimate
    verdict: Verdict
    placement: str
    chat_option: str


def try_options(
    shape: Shape, tensors: Sequence[TensorSpec], options: Options, memories: Sequence[Memory]
) -> Trial:
    """Return what `options` need on the devices `memories`, with the layers placed best."""
    placement = place_layers(shape, tensors, options, memories)
    gpus = tuple(m.name for m in memories if m.name != HOST)
    estimate = estimate_memory(shape, tensors, placement.options, gpus)
    verdict = judge_estimate(estimate, memories)
    return Trial(placement.options, estimate, verdict, placement.reason, placement.chat_option)


def largest_context(
    shape: Shape, tensors: Sequence[TensorSpec], options: Options, memories: Sequence[Memory]
) -> int:
    """Return the largest context that fits: a multiple of 256, the model's own, or 0."""

    def fits(n_ctx: int) -> bool:
        return try_options(shape, tensors, replace(options, n_ctx=n_ctx), memories).verdict.fits

    return find_largest(fits, shape.n_ctx_train)


def find_largest(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest context that `fits`: a multiple of 256, `most`, or 0.

    The memory needed grows with the context, so a binary search finds the limit.
    """
    if fits(most):
        return most
    multiples = range(CTX_PAD, most, CTX_PAD)
    # Those that fit come before the others.
    n_fitting = bisect_left(multiples, True, key=lambda n_ctx: not fits(n_ctx))
    return n_fitting * CTX_PAD


@dataclass(frozen=True, slots=True)
class ContextPlan:
    """The context to open, and the reason for it."""

    n_ctx: int
    reason: str


def plan_context(
    shape: Shape, tensors: Sequence[TensorSpec], options: Options, memories: Sequence[Memory]
) -> ContextPlan:
    """Return the context that `g4 chat` opens when none is asked for: the model's own, or less.

    On GPUs it is limited to what leaves the layers where COMMON_CTX tokens leave them: a long
    context that nobody asked for must not push layers into host memory, where they are slow. If no
    context fits, the plan is the shortest useful one and the reason says so: the caller decides.
    """
    most = largest_context(shape, tensors, options, memories)
    if most > COMMON_CTX and any(m.name != HOST for m in memories):
        common = replace(options, n_ctx=COMMON_CTX)
        placed = try_options(shape, tensors, common, memories).options
        same_layers = replace(placed, fixed_layout=True)
        n_ctx = largest_context(shape, tensors, same_layers, memories)
        if n_ctx < most:
            where = "workers" if any(is_remote(m.name) for m in memories) else "GPU"
            reason = (
                f"context {n_ctx:,}: the largest with these layers on the {where} "
                f"({most:,} if more of them move to host memory)"
            )
            return ContextPlan(n_ctx, reason)
    reserve = size_text(min((m.reserve_bytes for m in memories), default=0))
    if most == shape.n_ctx_train:
        return ContextPlan(most, f"context {most:,}: the largest that the model was trained for")
    if most:
        return ContextPlan(most, f"context {most:,}: the largest that leaves {reserve} free")
    shortest = min(CONTEXTS[0], shape.n_ctx_train)
    return ContextPlan(shortest, f"no context fits; the figures are for {shortest:,} tokens")
