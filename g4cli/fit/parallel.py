"""How many conversations run at once in one context, and how long each may be.

Each conversation has cells of its own: the full-attention layers need `n_ctx` cells for each, the
sliding-window layers a window and a ubatch for each, and the output a row of logits for each
(`g4cli.estimate`, whose figures are llama.cpp's to the byte).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from g4cli.core.ggml import round_up
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.shape import Shape
from g4cli.core.units import size_text
from g4cli.estimate import CTX_PAD, HOST, Options
from g4cli.fit.context import COMMON_CTX, CONTEXTS, find_largest, try_options
from g4cli.fit.memory import Memory

MAX_AUTO_PARALLEL: Final = 4
"""The most conversations that are chosen where none were asked for: llama-server's number too
(tools/server/server-context.cpp, `n_parallel` auto, llama.cpp@0c1e57098)."""


@dataclass(frozen=True, slots=True)
class ParallelPlan:
    """`n_parallel` conversations of `n_ctx` tokens each.

    `options` are those of the whole context, with the layers placed. `reason` says why so many, or
    why they do not fit.
    """

    n_parallel: int
    n_ctx: int
    options: Options
    fits: bool
    reason: str


def share_context(options: Options, n_parallel: int, n_ctx: int) -> Options:
    """Return `options` for a context of `n_parallel` conversations of `n_ctx` tokens each.

    llama.cpp rounds each up to 256 cells. A draft model serves a single conversation; each may keep
    its own checkpoints.
    """
    total = round_up(n_ctx, CTX_PAD) * n_parallel if n_parallel > 1 else n_ctx
    return replace(
        options,
        n_ctx=total,
        n_seq=n_parallel,
        n_checkpoints=options.n_checkpoints * n_parallel,
        draft=options.draft if n_parallel == 1 else None,
    )


def plan_parallel(
    shape: Shape,
    tensors: Sequence[TensorSpec],
    options: Options,
    memories: Sequence[Memory],
    *,
    n_parallel: int = 0,
    n_ctx: int = 0,
) -> ParallelPlan:
    """Return how many conversations to run at once, and the tokens of each; 0 lets it choose.

    Of the number that is chosen, each conversation gets COMMON_CTX tokens at least (or `n_ctx`, or
    the model's own if that is less), and no more layers move to host memory than a single
    conversation of that size moves there. The context that is chosen is the largest that fits.
    Raises what `estimate` raises for options that llama.cpp refuses.
    """
    wanted = n_ctx or min(COMMON_CTX, shape.n_ctx_train)
    base = options
    if any(memory.name != HOST for memory in memories):
        first = share_context(options, n_parallel or 1, wanted)
        # Only the layers stay as they are placed: draft and checkpoints follow from the number.
        base = replace(
            try_options(shape, tensors, first, memories).options,
            fixed_layout=True,
            draft=options.draft,
            n_checkpoints=options.n_checkpoints,
        )

    def fits(count: int, ctx: int) -> bool:
        return try_options(shape, tensors, share_context(base, count, ctx), memories).verdict.fits

    count = n_parallel or next((n for n in range(MAX_AUTO_PARALLEL, 1, -1) if fits(n, wanted)), 1)
    each = n_ctx or find_largest(lambda ctx: fits(count, ctx), shape.n_ctx_train)
    each = each or min(CONTEXTS[0], shape.n_ctx_train)
    trial = try_options(shape, tensors, share_context(base, count, each), memories)
    what = f"{count} conversations at once, {each:,} tokens each"
    if count == 1:
        what = f"one conversation at a time, {each:,} tokens"
    if not trial.verdict.fits:
        reason = f"{what}: {trial.verdict.reason}"
    elif n_parallel and n_ctx:
        reason = f"{what}: as requested"
    elif each == shape.n_ctx_train and (n_parallel or count == MAX_AUTO_PARALLEL):
        reason = f"{what}: the context that the model was trained for"
    else:
        reserve = size_text(min((m.reserve_bytes for m in memories), default=0))
        reason = f"{what}: the most that leaves {reserve} free"
    return ParallelPlan(count, each, trial.options, trial.verdict.fits, reason)
