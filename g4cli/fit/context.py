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

DEFAULT_CTX: Final = 32768
"""The context of a chat that asks for none, where it fits."""

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


def attempt(shape: Shape, tensors: Sequence[Tensor], options: Options, memories: Sequence[Memory]) -> Trial:
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
    """Return the context that `g4 chat` opens when none is asked for.

    The most that fits up to DEFAULT_CTX; a longer one costs memory and, on a CPU, time that few chats need.
    If nothing fits, the smallest sensible one, and the reason says so: the caller decides.
    """
    most = largest_context(shape, tensors, options, memories)
    margin = size_text(min((m.margin_bytes for m in memories), default=0))
    if most > DEFAULT_CTX:
        more = f"up to {most} fits" if most < shape.n_ctx_train else f"the model's whole {most} fits too"
        return ContextPlan(DEFAULT_CTX, f"context {DEFAULT_CTX}: the default; {more}")
    if most == shape.n_ctx_train:
        return ContextPlan(most, f"context {most}: all that the model was made for")
    if most:
        return ContextPlan(most, f"context {most}: the largest that leaves {margin} free")
    smallest = min(CONTEXTS[0], shape.n_ctx_train)
    return ContextPlan(smallest, f"context {smallest}: no context fits; this is the smallest sensible one")
