"""Answer `g4 fit`: find subject, machine and options, plan, and collect the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from g4cli import LLAMA_CPP_PYTHON
from g4cli.core.errors import UsageError
from g4cli.core.reporter import Reporter
from g4cli.core.shape import Shape
from g4cli.core.units import size_text
from g4cli.estimate import (
    HOST,
    Estimate,
    NetworkCost,
    Options,
    Term,
    check_options,
    count_network_bytes,
    is_remote,
)
from g4cli.estimate.placement import layer_devices
from g4cli.estimate.weights import list_sent_tensors
from g4cli.fit.context import COMMON_CTX
from g4cli.fit.plan import FitPlan, plan_fit
from g4cli.fit.ranking import TypeRanking
from g4cli.host import engine_version
from g4cli.operations.fit.alternatives import find_alternative
from g4cli.operations.fit.drafting import find_draft_file
from g4cli.operations.fit.machine import Machine, find_request_machine
from g4cli.operations.fit.options import make_fit_options
from g4cli.operations.fit.ranking import rank_all_models, rank_model_types
from g4cli.operations.fit.request import FitRequest
from g4cli.operations.fit.subject import Subject, find_subject
from g4cli.store.states.limits import AUTO, choose_limit


@dataclass(frozen=True, slots=True)
class FitAnswer:
    """Whether a model fits a machine, and what follows from it.

    `ranking` is None for a file that is not in the registry. `verification` holds llama.cpp's own
    figures if the request has `verify` (verification.compare_with_llama_cpp). `library` is the
    version of the installed llama-cpp-python, "" if there is none. `alternative` says what fits
    instead, "" if the model fits or nothing does. `network` is what layers on workers cost, None
    where there are none.
    """

    subject: Subject
    machine: Machine
    plan: FitPlan
    ranking: TypeRanking | None
    verification: Mapping[str, Any] | None
    library: str
    alternative: str = ""
    network: NetworkCost | None = None


@dataclass(frozen=True, slots=True)
class MatrixAnswer:
    """Every model in every type, judged for a machine: the rows of ranking.rank_all_models."""

    machine: Machine
    rows: list[dict[str, Any]]


def answer_fit(request: FitRequest, reporter: Reporter) -> FitAnswer:
    """Return whether the model of `request` fits. At most the header of a file is downloaded.

    Raises what find_subject, make_fit_options and compare_with_llama_cpp raise; UsageError or
    BadFile for options or a shape that llama.cpp would refuse; UsageError for a context beyond the
    training.
    """
    subject = find_subject(request.model)
    machine = find_request_machine(request)
    options = make_fit_options(request, machine.host, subject)
    check_options(subject.shape, options)
    _refuse_beyond_training(subject.shape, options)
    context_choice = request.ctx if isinstance(request.ctx, str) else "given"
    plan = plan_fit(
        subject.shape, subject.tensors, options, machine.memories, context_choice=context_choice
    )
    if not any(is_remote(m.name) for m in machine.memories):  # a chat with workers saves no states
        plan = replace(plan, estimate=add_saved_states(plan.estimate))
    # Types are compared at the requested context, or at one that is enough for most uses.
    n_ctx = plan.options.n_ctx if request.ctx != "auto" else min(plan.options.n_ctx, COMMON_CTX)
    ranking = None
    if subject.model is not None:
        ranking = rank_model_types(subject, options, machine.memories, machine.host, n_ctx)
    library = engine_version() or ""
    if library and library.split("+")[0] != LLAMA_CPP_PYTHON:  # 0.3.36+cu124: a build of 0.3.36
        reporter.warn(
            f"these figures were verified with llama-cpp-python {LLAMA_CPP_PYTHON}; "
            f"{library} is installed"
        )
    alternative = ""
    if not plan.verdict.fits:
        alternative = find_alternative(subject, machine, options, plan, ranking)
    verification = None
    if request.verify:
        from g4cli.operations.fit.verification import compare_with_llama_cpp  # needs llama.cpp

        draft_path = find_draft_file(subject.path, request.draft)
        verification = compare_with_llama_cpp(subject, plan.options, draft_path)
    network = count_network_cost(subject, machine, plan)
    return FitAnswer(subject, machine, plan, ranking, verification, library, alternative, network)


def _refuse_beyond_training(shape: Shape, options: Options) -> None:
    each = options.n_ctx if options.kv_unified else options.n_ctx // options.n_seq
    if each > shape.n_ctx_train:
        raise UsageError(
            f"a context of {each:,} tokens; the model supports at most {shape.n_ctx_train:,}",
            hint=f"--ctx {shape.n_ctx_train}, or --ctx max for the largest that fits",
        )


def count_network_cost(subject: Subject, machine: Machine, plan: FitPlan) -> NetworkCost | None:
    """Return what the plan sends over the network; None if it uses no workers.

    None too where --tensor-split divides layers that have to stay together: the amount is not
    estimated.
    """
    names = tuple(m.name for m in machine.memories if m.name != HOST)
    devices = layer_devices(subject.shape.n_layer, plan.options, names)
    sent = list_sent_tensors(subject.tensors, plan.options, devices)
    load_bytes = sum(n_bytes for _, n_bytes in sent)
    return count_network_bytes(subject.shape, plan.options, devices, load_bytes)


def add_saved_states(estimate: Estimate) -> Estimate:
    """Return `estimate` with what the saved states of a conversation may take on the disk.

    A state of a full context holds as much as the KV cache. Nothing is added where states are off.
    """
    limit_bytes = choose_limit(AUTO)
    if not limit_bytes:
        return estimate
    note = f"on disk, of a full context; {size_text(limit_bytes)} at most in all"
    n_bytes = min(estimate.kv_bytes, limit_bytes)
    return Estimate((*estimate.terms, Term("saved states", HOST, "disk", n_bytes, note)))


def answer_matrix(request: FitRequest) -> MatrixAnswer:
    """Return every model in every type, judged for the machine of `request`. Raises UsageError."""
    machine = find_request_machine(request)
    return MatrixAnswer(machine, rank_all_models(machine.host, machine.memories, request.kv_type))
