"""Plan a chat before the model is loaded: the context size, and which layers to offload."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from g4cli.core.errors import DoesNotFit, G4Error, UsageError
from g4cli.core.quoting import shell_word
from g4cli.core.reporter import Reporter
from g4cli.core.shape import MAX_CONTEXT, capped_context
from g4cli.core.units import GIB, MORE_LAYERS, parse_count
from g4cli.estimate import DEFAULT_IMAGE_TOKENS, HOST, Options, estimate_memory
from g4cli.fit import (
    CONTEXTS,
    Memory,
    Trial,
    count_spare_bytes,
    largest_context,
    plan_context,
    plan_parallel,
    share_context,
    try_options,
)
from g4cli.host import Gpu, GpuList, HostFacts, engine_version, is_unified
from g4cli.operations.chat.request import ChatRequest
from g4cli.operations.fit.drafting import add_drafting
from g4cli.operations.fit.options import (
    add_encoder,
    find_encoder,
    fix_layout,
    list_memories,
    make_run_options,
)
from g4cli.operations.fit.subject import Subject, make_subject
from g4cli.operations.models import LoadableModel, make_model_options
from g4cli.operations.states import make_state_options
from g4cli.operations.workers import (
    check_split,
    name_gpu_layers,
    warn_of_divided_layers,
)
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.messages import DeviceFacts, Open
from g4cli.runtime.engine.options import ContextOptions, ModelOptions

# A choice: what the worker may take beyond the estimate and half as much again, before the kernel
# refuses it: Python, the stacks of threads, decoded images, and what the estimate does not know.
_DATA_SLACK: Final = 2 * GIB
# A choice: a larger context is a typing error, for which llama.cpp would take all memory there is.
_MOST_CTX: Final = 8 * MAX_CONTEXT


@dataclass(frozen=True, slots=True)
class ChatPlan:
    """The context size, and how to load the model. `gpu_layers` is a number or "auto" (all).

    `n_cpu_moe` layers, the first ones, keep their experts in host memory. `data_bytes` is the most
    private memory that the model's process may have; 0 means no limit. `fits` says whether the plan
    fits into memory by the estimate. `n_parallel` conversations run at once, each with `n_ctx`
    tokens. `resident_bytes` is the estimate of the peak of resident memory on the host.
    `spare_bytes` of host memory stay free beside the reserve. `tensor_split`: the layers of each
    worker and GPU; empty: llama.cpp divides them by free memory.
    """

    n_ctx: int
    gpu_layers: str
    n_cpu_moe: int
    data_bytes: int = 0
    fits: bool = True
    n_parallel: int = 1
    resident_bytes: int = 0
    spare_bytes: int = 0
    tensor_split: tuple[float, ...] = ()


def plan_chat(
    request: ChatRequest,
    model: LoadableModel,
    host: HostFacts,
    reporter: Reporter,
    *,
    draft: str = "off",
    n_parallel: int = 1,
    require_fit: bool = False,
    workers: tuple[Memory, ...] = (),
) -> ChatPlan:
    """Return the plan for `host` and the devices of `workers`, and say what was chosen and why.

    `host` is this machine before the weights are loaded. `draft` is "off", "lookup" or the path of
    a draft model. `n_parallel` 0: as many conversations at once as fit, a few at most. What the
    request prescribes is not changed; a warning says if it may not fit, or if its context is longer
    than the model's. Raises UsageError, or with `require_fit` DoesNotFit instead of the warning.
    """
    subject = make_subject(model.path, model.header)
    memories = list_memories(host, workers=workers, device=request.device)
    check_split(request.workers.tensor_split, memories)
    options = add_drafting(_make_options(request, model, subject, host), subject, draft)
    if claimed := capped_context(model.header):
        reporter.warn(
            f"the file claims a context of {claimed:,} tokens; Gemma 4 has {MAX_CONTEXT:,}"
        )
    if n_parallel == 1:
        plan = _plan_one(request, subject, options, memories, reporter, require_fit=require_fit)
    else:
        plan = _plan_parallel(
            request, subject, options, memories, reporter, n_parallel, require_fit=require_fit
        )
    # Drivers of GPUs map private memory of their own, which no estimate knows: they are loaded also
    # if --device names the CPU. Nothing is estimated beyond the context of the training.
    has_host_only = len(list_memories(host, workers=workers)) == 1
    if has_host_only and plan.n_ctx <= subject.shape.n_ctx_train:
        loaded = share_context(options, plan.n_parallel, plan.n_ctx)
        return replace(plan, data_bytes=_limit_private_bytes(subject, loaded, request, model))
    return plan


def _make_options(
    request: ChatRequest, model: LoadableModel, subject: Subject, host: HostFacts
) -> Options:
    """Return the options of a run, with an encoder if the request has media or names it.

    Otherwise the encoder is loaded for the first image or audio file, and does not count yet.
    """
    options = make_run_options(
        host,
        subject,
        kv_type=request.kv_type,
        mmap=request.mmap,
        lazy_ple=request.lazy_ple,
        use_extra_bufts=model.use_extra_bufts,
    )
    options = replace(options, tensor_split=request.workers.tensor_split)
    options = fix_layout(options, request.gpu_layers, MORE_LAYERS if request.cpu_moe else 0)
    mmproj = request.mmproj or (
        find_encoder(model.path) if request.image or request.audio else None
    )
    if mmproj is None:
        return options
    return add_encoder(options, subject.shape, mmproj, request.image_tokens or DEFAULT_IMAGE_TOKENS)


def _plan_one(
    request: ChatRequest,
    subject: Subject,
    options: Options,
    memories: tuple[Memory, ...],
    reporter: Reporter,
    *,
    require_fit: bool,
) -> ChatPlan:
    """Return the plan for one conversation; reports why this context and these layers."""
    n_ctx = _choose_context(request, subject, options, memories, reporter)
    # No estimate is made for more than the model was trained for.
    options = replace(options, n_ctx=min(n_ctx, subject.shape.n_ctx_train))
    trial = try_options(subject.shape, subject.tensors, options, memories)
    verdict, placed = trial.verdict, trial.options
    if not verdict.fits and require_fit:
        raise _make_size_error(request, verdict.reason)
    if not verdict.fits:
        _warn_of_size(verdict.reason, request, reporter)
    warn_of_divided_layers(subject, placed, memories, reporter)
    if request.workers or (len(memories) > 1 and not options.fixed_layout):
        reporter.say(trial.placement)
    return _make_plan(request, trial, memories, n_ctx)


def _make_plan(
    request: ChatRequest,
    trial: Trial,
    memories: tuple[Memory, ...],
    n_ctx: int,
    n_parallel: int = 1,
) -> ChatPlan:
    """Return the plan with the layers of `trial`, without a limit of private memory."""
    placed, gpu_layers = trial.options, request.gpu_layers
    if len(memories) > 1:
        gpu_layers = name_gpu_layers(placed.n_gpu_layers)
    return ChatPlan(
        n_ctx,
        gpu_layers,
        placed.n_cpu_moe,
        fits=trial.verdict.fits,
        n_parallel=n_parallel,
        resident_bytes=trial.estimate.resident_bytes,
        spare_bytes=count_spare_bytes(trial.estimate, memories),
        # Without workers llama.cpp divides the layers as the planner does: by free memory.
        tensor_split=placed.tensor_split if request.workers else request.workers.tensor_split,
    )


def _make_size_error(request: ChatRequest, reason: str) -> DoesNotFit:
    return DoesNotFit(
        f"{request.model} does not fit into memory: {reason}",
        hint=f"g4 fit {shell_word(request.model)}",
    )


def _plan_parallel(
    request: ChatRequest,
    subject: Subject,
    options: Options,
    memories: tuple[Memory, ...],
    reporter: Reporter,
    n_parallel: int,
    *,
    require_fit: bool,
) -> ChatPlan:
    """Return the plan for several conversations in one context; reports why this many."""
    most = subject.shape.n_ctx_train
    asked = 0 if request.ctx in ("", "max") else parse_count(request.ctx)
    plan = plan_parallel(
        subject.shape,
        subject.tensors,
        options,
        memories,
        n_parallel=n_parallel,
        n_ctx=min(asked, most),
    )
    if plan.fits:
        reporter.say(plan.reason)
    elif require_fit:
        raise _make_size_error(request, plan.reason)
    else:
        _warn_of_size(plan.reason, request, reporter)
    _check_beyond_training(asked, most, reporter)
    trial = try_options(subject.shape, subject.tensors, plan.options, memories)
    if request.workers:
        reporter.say(trial.placement)
    return _make_plan(request, trial, memories, max(asked, plan.n_ctx), plan.n_parallel)


def _choose_context(
    request: ChatRequest,
    subject: Subject,
    options: Options,
    memories: tuple[Memory, ...],
    reporter: Reporter,
) -> int:
    """Return the context of --ctx, or the largest that fits; reports the reason of a choice."""
    most = subject.shape.n_ctx_train
    if request.ctx == "max":
        n_ctx = largest_context(subject.shape, subject.tensors, options, memories)
        reporter.say(
            f"context {n_ctx:,}: the largest that fits"
            if n_ctx
            else "no context size fits: the smallest is used"
        )
        return n_ctx or min(CONTEXTS[0], most)
    if request.ctx:
        n_ctx = parse_count(request.ctx)
        _check_beyond_training(n_ctx, most, reporter)
        return n_ctx
    plan = plan_context(subject.shape, subject.tensors, options, memories)
    if plan.n_ctx < most:
        reporter.say(plan.reason)
    return plan.n_ctx


def _check_beyond_training(n_ctx: int, n_ctx_train: int, reporter: Reporter) -> None:
    """Warn of a context beyond the training. Raises UsageError beyond that of any use."""
    if n_ctx > _MOST_CTX:
        raise UsageError(
            f"a context of {n_ctx:,} tokens; this model was trained for {n_ctx_train:,}",
            hint=f"--ctx {n_ctx_train}, or --ctx max for the largest that fits",
        )
    if n_ctx > n_ctx_train:
        reporter.warn(
            f"--ctx exceeds the {n_ctx_train:,} tokens that this model was trained for; "
            "quality drops"
        )


def _warn_of_size(reason: str, request: ChatRequest, reporter: Reporter) -> None:
    command = f"g4 fit {shell_word(request.model)}"
    reporter.warn(f"the model may not fit into memory: {reason} ({command})")


def _limit_private_bytes(
    subject: Subject, options: Options, request: ChatRequest, model: LoadableModel
) -> int:
    """Return a limit of private memory in bytes that only a hostile file would exceed."""
    # /image may load the encoder later; a file that is not an encoder is reported then.
    if options.media is None and (mmproj := request.mmproj or find_encoder(model.path)):
        with suppress(G4Error):
            image_tokens = request.image_tokens or DEFAULT_IMAGE_TOKENS
            options = add_encoder(options, subject.shape, mmproj, image_tokens)
    needed = estimate_memory(subject.shape, subject.tensors, options).sum_bytes(device=HOST)
    return needed + needed // 2 + _DATA_SLACK


def choose_model_options(
    request: ChatRequest, model: LoadableModel, plan: ChatPlan
) -> ModelOptions:
    """Return how the weights are loaded, as planned. Raises UsageError for --gpu-layers."""
    return make_model_options(
        gpu_layers=plan.gpu_layers,
        device=request.device,
        mmap=request.mmap,
        lazy_ple=request.lazy_ple,
        n_cpu_moe=plan.n_cpu_moe,
        use_extra_bufts=model.use_extra_bufts,
        workers=request.workers.texts,
        tensor_split=plan.tensor_split,
    )


def make_open_request(
    request: ChatRequest,
    model: LoadableModel,
    plan: ChatPlan,
    draft: DraftChoice,
    *,
    ram_bytes: int = 0,
) -> Open:
    """Return what the worker is told to load. Raises UsageError for --gpu-layers, --state-cache.

    `ram_bytes`: for states of prompts in memory.
    """
    options = choose_model_options(request, model, plan)
    context = ContextOptions(
        n_ctx=plan.n_ctx,
        kv_type=request.kv_type,
        n_threads=request.threads,
        n_outputs=draft.n_outputs,
        n_parallel=plan.n_parallel,
    )
    states = None
    if not request.workers:
        states = make_state_options(
            model.path, request.model, request.state_cache, ram_bytes=ram_bytes
        )
    elif request.state_cache not in ("auto", "off"):
        raise UsageError(
            "with --rpc no states of prompts are saved: each would cross the network",
            hint="--state-cache off",
        )
    return Open(model.path, options, context, draft, plan.data_bytes, states)


def replace_gpus(host: HostFacts, devices: Sequence[DeviceFacts]) -> HostFacts:
    """Return `host` with the GPUs among `devices`, those that llama.cpp sees now.

    Devices of workers, which ggml calls GPUs too, are not among them: a process lists its devices
    before it connects to a worker.
    """
    gpus = tuple(
        Gpu(d.name, d.description, d.total_bytes, d.free_bytes, unified=is_unified(d.kind))
        for d in devices
        if d.kind in ("gpu", "igpu")
    )
    return replace(host, gpus=GpuList(gpus, engine_version() or "", 0.0))
