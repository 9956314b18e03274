"""What `g4 chat` opens when nothing is prescribed: the context, and which layers go to the GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from g4cli.core.quoting import shell_word
from g4cli.core.units import GIB

if TYPE_CHECKING:
    from g4cli.cli.chat.run import Checked, Request
    from g4cli.cli.output import Output
    from g4cli.estimate import Options
    from g4cli.fit import Memory
    from g4cli.host import HostFacts
    from g4cli.operations.fit.subject import Subject
    from g4cli.runtime.engine.messages import DeviceFacts

# What the worker may take beyond the estimate, half as much again, before the kernel refuses it: Python, the
# stacks of threads, decoded images, and what the estimate does not know.
_DATA_SLACK: Final = 2 * GIB


@dataclass(frozen=True, slots=True)
class ChatPlan:
    """How to load and what to open. `gpu_layers` is a number or "auto" (all).

    `data_bytes`: the private memory that the model's process may have at most; 0: no limit is known.
    """

    n_ctx: int
    gpu_layers: str
    cpu_moe: bool
    data_bytes: int = 0


def plan_chat(
    out: Output, request: Request, checked: Checked, host: HostFacts, draft: str = "off"
) -> ChatPlan:
    """Return the plan for this machine as it is before the weights are loaded, and say what was chosen.

    `draft` is what drafts tokens: "off", "lookup" or the file of a draft model.
    What the user wrote is taken as it is; a context beyond the model's is warned of. Raises UsageError.
    """
    from g4cli.core.shape import MAX_CONTEXT, capped_context
    from g4cli.estimate import IMAGE_TOKENS
    from g4cli.fit import try_options
    from g4cli.operations.fit.drafting import add_drafting
    from g4cli.operations.fit.options import (
        add_encoder,
        find_encoder,
        list_memories,
        make_run_options,
    )
    from g4cli.operations.fit.subject import make_subject

    subject, memories = make_subject(checked.path, checked.header), list_memories(host)
    options = make_run_options(
        host,
        subject,
        kv_type=request.kv_type,
        mmap=request.mmap,
        lazy_ple=request.lazy_ple,
        use_extra_bufts=checked.use_extra_bufts,
    )
    # An encoder is loaded with the first picture or sound: it counts where one is there already.
    mmproj = request.mmproj or (
        find_encoder(checked.path) if request.image or request.audio else None
    )
    if mmproj:
        options = add_encoder(options, subject.shape, mmproj, request.image_tokens or IMAGE_TOKENS)
    options = add_drafting(options, subject, draft)
    if claimed := capped_context(checked.header):
        out.warn(f"the file claims a context of {claimed:,} tokens; Gemma 4 has {MAX_CONTEXT:,}")
    n_ctx = _context(out, request, subject, options, memories)
    # Beyond the model's own context nothing is estimated: the largest estimate has to do.
    options = replace(options, n_ctx=min(n_ctx, subject.shape.n_ctx_train))
    found = try_options(subject.shape, subject.tensors, options, memories).verdict
    if not found.fits:
        out.warn(f"this may not fit: {found.reason} (g4 fit {shell_word(request.model)})")
    is_free = request.gpu_layers == "auto" and request.device is None and not request.cpu_moe
    if not is_free or len(memories) == 1:
        data_bytes = 0
        if len(memories) == 1 and n_ctx <= subject.shape.n_ctx_train:
            data_bytes = _data_bytes(subject, options, request, checked)
        return ChatPlan(n_ctx, request.gpu_layers, request.cpu_moe, data_bytes)
    return _layout(out, subject, options, memories, n_ctx)


def _context(
    out: Output, request: Request, subject: Subject, options: Options, memories: tuple[Memory, ...]
) -> int:
    from g4cli.core.units import parse_count
    from g4cli.fit import CONTEXTS, largest_context, plan_context

    most = subject.shape.n_ctx_train
    if request.ctx == "max":
        n_ctx = largest_context(subject.shape, subject.tensors, options, memories)
        out.say(
            f"context {n_ctx:,}: the largest that fits" if n_ctx else "no context fits: a small one"
        )
        return n_ctx or min(CONTEXTS[0], most)
    if request.ctx:
        n_ctx = parse_count(request.ctx)
        if n_ctx > most:
            out.warn(f"the model was made for {most:,} tokens; beyond that it guesses")
        return n_ctx
    plan = plan_context(subject.shape, subject.tensors, options, memories)
    if plan.n_ctx < most:
        out.say(plan.reason)
    return plan.n_ctx


def _layout(
    out: Output, subject: Subject, options: Options, memories: tuple[Memory, ...], n_ctx: int
) -> ChatPlan:
    """Return the layout that fits the GPUs: everything, experts left behind, or as many layers as fit."""
    from g4cli.fit import place_layers

    laid = place_layers(subject.shape, subject.tensors, options, memories)
    n_gpu_layers = laid.options.n_gpu_layers
    out.say(laid.reason)
    return ChatPlan(
        n_ctx, "auto" if n_gpu_layers < 0 else str(n_gpu_layers), laid.options.n_cpu_moe > 0
    )


def _data_bytes(subject: Subject, options: Options, request: Request, checked: Checked) -> int:
    """Return the most private memory that this run can need by far: a hostile file is stopped there."""
    from g4cli.core.errors import G4Error
    from g4cli.estimate import HOST, IMAGE_TOKENS, estimate
    from g4cli.operations.fit.options import add_encoder, find_encoder

    # The encoder may be asked for later, by /image; a file that is none is reported then.
    if options.media is None and (mmproj := request.mmproj or find_encoder(checked.path)):
        with suppress(G4Error):
            image_tokens = request.image_tokens or IMAGE_TOKENS
            options = add_encoder(options, subject.shape, mmproj, image_tokens)
    needed = estimate(subject.shape, subject.tensors, options).sum(device=HOST)
    return needed + needed // 2 + _DATA_SLACK


def with_live_gpus(host: HostFacts, devices: Sequence[DeviceFacts]) -> HostFacts:
    """Return `host` with the GPUs among the devices that llama.cpp sees now."""
    from g4cli.host import Gpu, GpuList, engine_version, is_unified

    gpus = tuple(
        Gpu(d.name, d.description, d.total_bytes, d.free_bytes, unified=is_unified(d.kind))
        for d in devices
        if d.kind in ("gpu", "igpu")
    )
    return replace(host, gpus=GpuList(gpus, engine_version() or "", 0.0))
