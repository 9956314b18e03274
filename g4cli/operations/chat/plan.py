"""Plan a chat before the model is loaded: the context size, and which layers to offload."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from g4cli.core.errors import DoesNotFit, G4Error, UsageError
from g4cli.core.quoting import shell_word
from g4cli.core.reporter import Reporter
from g4cli.core.shape import CONTEXT_LIMIT, MAX_TRAINED_CONTEXT, capped_context
from g4cli.core.units import GIB, parse_count
from g4cli.estimate import DEFAULT_IMAGE_TOKENS, HOST, Options, estimate_memory
from g4cli.fit.context import CONTEXTS, Trial, largest_context, plan_context, try_options
from g4cli.fit.memory import Memory, count_spare_bytes
from g4cli.fit.parallel import plan_parallel, share_context
from g4cli.host import HostFacts, select_gpus
from g4cli.operations.chat.request import ChatRequest
from g4cli.operations.fit.drafting import add_drafting
from g4cli.operations.fit.options import (
    add_encoder,
    find_encoder,
    list_memories,
    make_loading_options,
)
from g4cli.operations.fit.subject import Subject, make_subject
from g4cli.operations.models import LoadableModel, make_model_options
from g4cli.operations.states import make_state_options
from g4cli.operations.workers import (
    ask_worker_memories,
    check_split,
    take_placement,
    warn_of_divided_layers,
)
from g4cli.runtime.engine.drafting import DraftChoice
from g4cli.runtime.engine.messages import DeviceFacts, Open
from g4cli.runtime.engine.options import ContextOptions, ModelOptions

# A choice: what the worker may take beyond the estimate and half as much again, before the kernel
# refuses it: Python, the stacks of threads, decoded images, and what the estimate does not know.
_DATA_SLACK: Final = 2 * GIB


@dataclass(frozen=True, slots=True)
class ChatPlan:
    """The context size, and how to load the model: `loading`, with the layers placed.

    `data_bytes` is the most private memory that the model's process may have; 0 means no limit.
    `fits` says whether the plan fits into memory by the estimate. `n_parallel` conversations run at
    once, each with `n_ctx` tokens. `resident_bytes` is the estimate of the peak of resident memory
    on the host. `spare_bytes` of host memory stay free beside the reserve.
    """

    n_ctx: int
    loading: ModelOptions
    data_bytes: int = 0
    fits: bool = True
    n_parallel: int = 1
    resident_bytes: int = 0
    spare_bytes: int = 0


def plan_chat(
    request: ChatRequest,
    model: LoadableModel,
    host: HostFacts,
    reporter: Reporter,
    *,
    draft: str = "off",
    n_parallel: int = 1,
    require_fit: bool = False,
) -> ChatPlan:
    """Return the plan for `host` and the workers of `request`; say what was chosen and why.

    `host` is this machine before the weights are loaded. `draft` is "off", "lookup" or the path of
    a draft model. `n_parallel` 0: as many conversations at once as fit, a few at most. What the
    request prescribes is not changed; a warning says if it may not fit, or if its context is longer
    than the model's. Raises UsageError, what asking the workers raises, or with `require_fit`
    DoesNotFit instead of the warning.
    """
    subject = make_subject(model.path, model.header)
    workers = ask_worker_memories(request.workers.addresses)
    memories = list_memories(host, workers=workers, device=request.device)
    check_split(request.workers.tensor_split, memories)
    loading = make_model_options(
        model,
        gpu_layers=request.gpu_layers,
        device=request.device,
        mmap=request.mmap,
        lazy_ple=request.lazy_ple,
        cpu_moe=request.cpu_moe,
        workers=request.workers,
    )
    options = make_loading_options(host, subject, loading, kv_type=request.kv_type)
    # Otherwise the encoder is loaded for the first image or audio file, and does not count yet.
    has_media = bool(request.image or request.audio)
    if mmproj := request.mmproj or (find_encoder(model.path) if has_media else None):
        options = _add_encoder(options, request, subject, mmproj)
    options = add_drafting(options, subject, draft)
    if claimed := capped_context(model.header):
        reporter.warn(
            f"the file claims a context of {claimed:,} tokens; Gemma 4 has {MAX_TRAINED_CONTEXT:,}"
        )
    planner = _Planner(request, subject, options, loading, memories, reporter, require_fit)
    plan = planner.plan_one() if n_parallel == 1 else planner.plan_parallel(n_parallel)
    # Drivers of GPUs map private memory of their own, which no estimate knows: they are loaded also
    # if --device names the CPU.
    has_host_only = len(list_memories(host, workers=workers)) == 1
    if has_host_only:
        shared = share_context(options, plan.n_parallel, plan.n_ctx)
        return replace(plan, data_bytes=_limit_private_bytes(subject, shared, request, model.path))
    return plan


def _add_encoder(options: Options, request: ChatRequest, subject: Subject, mmproj: Path) -> Options:
    image_tokens = request.image_tokens or DEFAULT_IMAGE_TOKENS
    return add_encoder(options, subject.shape, mmproj, image_tokens)


@dataclass(frozen=True, slots=True)
class _Planner:
    """What both kinds of plan are made from; `loading` is how the request asks to load the model.

    With `require_fit`, DoesNotFit is raised for what does not fit.
    """

    request: ChatRequest
    subject: Subject
    options: Options
    loading: ModelOptions
    memories: tuple[Memory, ...]
    reporter: Reporter
    require_fit: bool

    @property
    def n_ctx_train(self) -> int:
        """The tokens of context that the model was trained for."""
        return self.subject.shape.n_ctx_train

    def plan_one(self) -> ChatPlan:
        """Return the plan for one conversation; reports why this context and these layers."""
        n_ctx = self._choose_context()
        trial = self._try(replace(self.options, n_ctx=n_ctx))
        if not trial.verdict.fits:
            self._report_size(trial.verdict.reason)
        warn_of_divided_layers(self.subject, trial.options, self.memories, self.reporter)
        if self.request.workers or (len(self.memories) > 1 and not self.options.fixed_layout):
            self.reporter.say(trial.placement)
        return self._make_plan(trial, n_ctx)

    def plan_parallel(self, n_parallel: int) -> ChatPlan:
        """Return the plan for several conversations in one context; reports why this many."""
        shape, tensors = self.subject.shape, self.subject.tensors
        asked = 0 if self.request.ctx in ("", "max") else parse_count(self.request.ctx)
        self._check_beyond_training(asked)
        plan = plan_parallel(
            shape, tensors, self.options, self.memories, n_parallel=n_parallel, n_ctx=asked
        )
        if plan.fits:
            self.reporter.say(plan.reason)
        else:
            self._report_size(plan.reason)
        trial = self._try(plan.options)
        if self.request.workers:
            self.reporter.say(trial.placement)
        return self._make_plan(trial, plan.n_ctx, plan.n_parallel)

    def _try(self, options: Options) -> Trial:
        return try_options(self.subject.shape, self.subject.tensors, options, self.memories)

    def _make_plan(self, trial: Trial, n_ctx: int, n_parallel: int = 1) -> ChatPlan:
        """Return the plan with the layers of `trial`, without a limit of private memory."""
        loading = self.loading
        if len(self.memories) > 1:
            loading = take_placement(loading, trial.options)
        if not self.request.workers:
            # llama.cpp divides the layers as the planner does: by free memory.
            loading = replace(loading, tensor_split=self.loading.tensor_split)
        return ChatPlan(
            n_ctx,
            loading,
            fits=trial.verdict.fits,
            n_parallel=n_parallel,
            resident_bytes=trial.estimate.resident_bytes,
            spare_bytes=count_spare_bytes(trial.estimate, self.memories),
        )

    def _choose_context(self) -> int:
        """Return the context of --ctx, or the largest that fits; reports the reason of a choice."""
        shape, tensors = self.subject.shape, self.subject.tensors
        if self.request.ctx == "max":
            n_ctx = largest_context(shape, tensors, self.options, self.memories)
            self.reporter.say(
                f"context {n_ctx:,}: the largest that fits"
                if n_ctx
                else "no context size fits: the smallest is used"
            )
            return n_ctx or min(CONTEXTS[0], self.n_ctx_train)
        if self.request.ctx:
            n_ctx = parse_count(self.request.ctx)
            self._check_beyond_training(n_ctx)
            return n_ctx
        plan = plan_context(shape, tensors, self.options, self.memories)
        if plan.n_ctx < self.n_ctx_train:
            self.reporter.say(plan.reason)
        return plan.n_ctx

    def _check_beyond_training(self, n_ctx: int) -> None:
        """Warn of a context beyond the training. Raises UsageError beyond that of any use."""
        if n_ctx > CONTEXT_LIMIT:
            raise UsageError(
                f"a context of {n_ctx:,} tokens; this model was trained for {self.n_ctx_train:,}",
                hint=f"--ctx {self.n_ctx_train}, or --ctx max for the largest that fits",
            )
        if n_ctx > self.n_ctx_train:
            self.reporter.warn(
                f"--ctx exceeds the {self.n_ctx_train:,} tokens that this model was trained for; "
                "quality drops"
            )

    def _report_size(self, reason: str) -> None:
        """Warn that the model may not fit, or raise DoesNotFit if it has to."""
        command = f"g4 fit {shell_word(self.request.model)}"
        if self.require_fit:
            what = f"{self.request.model} does not fit into memory: {reason}"
            raise DoesNotFit(what, hint=command)
        self.reporter.warn(f"the model may not fit into memory: {reason} ({command})")


def _limit_private_bytes(
    subject: Subject, options: Options, request: ChatRequest, path: Path
) -> int:
    """Return a limit of private memory in bytes that only a hostile file at `path` would exceed."""
    # /image may load the encoder later; a file that is not an encoder is reported then.
    if options.media is None and (mmproj := request.mmproj or find_encoder(path)):
        with suppress(G4Error):
            options = _add_encoder(options, request, subject, mmproj)
    needed = estimate_memory(subject.shape, subject.tensors, options).sum_bytes(device=HOST)
    return needed + needed // 2 + _DATA_SLACK


def make_open_request(
    request: ChatRequest,
    model: LoadableModel,
    plan: ChatPlan,
    draft: DraftChoice,
    *,
    ram_bytes: int = 0,
) -> Open:
    """Return what the worker is told to load. Raises UsageError for --state-cache.

    `ram_bytes`: for states of prompts in memory.
    """
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
    return Open(model.path, plan.loading, context, draft, plan.data_bytes, states)


def replace_gpus(host: HostFacts, devices: Sequence[DeviceFacts]) -> HostFacts:
    """Return `host` with the GPUs among `devices`, those that llama.cpp sees now.

    Devices of workers, which ggml calls GPUs too, are not among them: a process lists its devices
    before it connects to a worker.
    """
    return replace(host, gpus=select_gpus(map(asdict, devices)))
