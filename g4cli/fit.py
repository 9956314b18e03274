"""Does a run fit this machine, and what would? Pure; every answer carries its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from g4cli.core.shape import Shape
from g4cli.core.units import GIB, size_text
from g4cli.estimate import CTX_PAD, HOST, Estimate, Options, Tensor, estimate

MARGIN_BYTES: Final = GIB
"""What a plan leaves free on each device, as llama.cpp's own fitting does; an eighth of small ones."""

DEFAULT_CTX: Final = 32768
"""The context of a chat that asks for none, where it fits."""

CONTEXTS: Final = (4096, 8192, 16384, 32768, 65536, 131072, 262144)
"""Contexts shown beside each other."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A device that may hold terms: "host" or a GPU's name, and its bytes in all and free now."""

    name: str
    total_bytes: int
    available_bytes: int

    @property
    def margin_bytes(self) -> int:
        """Return what stays free."""
        return min(MARGIN_BYTES, self.total_bytes // 8)

    @property
    def usable_bytes(self) -> int:
        """Return what a run may take."""
        return max(0, self.available_bytes - self.margin_bytes)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an estimate fits, with the reason as a sentence."""

    fits: bool
    reason: str


def verdict(found: Estimate, memories: Sequence[Memory]) -> Verdict:
    """Return whether every device holds its terms and keeps its margin free."""
    reasons = []
    for memory in memories:
        needed = found.sum(device=memory.name)
        if not needed:
            continue
        margin = memory.margin_bytes
        place = "" if memory.name == HOST else f" on {memory.name}"
        facts = f"{size_text(needed)} needed{place}, {size_text(memory.available_bytes)} free"
        if needed <= memory.usable_bytes:
            reasons.append(f"{facts}; {size_text(memory.available_bytes - needed)} stays free")
        elif needed + margin <= memory.total_bytes:
            return Verdict(
                False,
                f"{facts} now; {size_text(memory.total_bytes)} in all would do: close other programs",
            )
        elif needed <= memory.total_bytes:
            return Verdict(
                False,
                f"{facts}, {size_text(memory.total_bytes)} in all: under {size_text(margin)} would be left",
            )
        else:
            return Verdict(False, f"{facts}, {size_text(memory.total_bytes)} in all")
    return Verdict(True, "; ".join(reasons))


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
    if most >= DEFAULT_CTX:
        longest = f"up to {most} fits" if most > DEFAULT_CTX else "the largest that fits"
        if most == shape.n_ctx_train:
            longest = f"the model's whole {most} fits too" if most > DEFAULT_CTX else "the model's whole"
        return ContextPlan(DEFAULT_CTX, f"context {DEFAULT_CTX}: the default; {longest}")
    if most == shape.n_ctx_train:
        return ContextPlan(most, f"context {most}: all that the model was made for")
    if most:
        return ContextPlan(most, f"context {most}: the largest that leaves {margin} free")
    smallest = min(CONTEXTS[0], shape.n_ctx_train)
    return ContextPlan(smallest, f"context {smallest}: no context fits; this is the smallest sensible one")


def largest_context(
    shape: Shape, tensors: Sequence[Tensor], options: Options, memories: Sequence[Memory]
) -> int:
    """Return the largest context that fits with the margin kept: a multiple of 256, or 0 if none does.

    Memory grows with the context, so halving finds the border.
    """

    def fits(n_ctx: int) -> bool:
        return verdict(estimate(shape, tensors, replace(options, n_ctx=n_ctx)), memories).fits

    if fits(shape.n_ctx_train):
        return shape.n_ctx_train
    low, high = 0, shape.n_ctx_train // CTX_PAD  # low fits (or is nothing), high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * CTX_PAD) else (low, middle)
    return low * CTX_PAD


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that `g4 fit` says about one network on one machine."""

    options: Options
    context_reason: str
    estimate: Estimate
    verdict: Verdict
    largest_ctx: int
    by_context: tuple[tuple[int, int, bool], ...]  # context, total bytes, fits


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
    reason = f"context {options.n_ctx}: as asked for"
    if choose == "":
        plan = plan_context(shape, tensors, options, memories)
        options, reason = replace(options, n_ctx=plan.n_ctx), plan.reason
    elif choose == "max":
        n_ctx = largest or min(CONTEXTS[0], shape.n_ctx_train)
        reason = f"context {n_ctx}: " + (
            "the largest that fits" if largest else "none fits; this is a small one"
        )
        options = replace(options, n_ctx=n_ctx)
    found = estimate(shape, tensors, options)
    contexts = sorted({*(c for c in CONTEXTS if c < shape.n_ctx_train), shape.n_ctx_train})
    rows = []
    for n_ctx in contexts:
        other = estimate(shape, tensors, replace(options, n_ctx=n_ctx))
        rows.append((n_ctx, other.total_bytes, verdict(other, memories).fits))
    return Report(options, reason, found, verdict(found, memories), largest, tuple(rows))
