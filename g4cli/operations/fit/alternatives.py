"""Find what fits when a model does not: the next best choice, with the command to type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from g4cli.core.registry import MODELS
from g4cli.core.units import count_text
from g4cli.estimate import Options, kv_type
from g4cli.fit.context import COMMON_CTX, largest_context, try_options
from g4cli.fit.plan import FitPlan
from g4cli.fit.ranking import TypeRanking
from g4cli.operations.fit.machine import Machine
from g4cli.operations.fit.options import make_chat_options
from g4cli.operations.fit.subject import Subject, describe_model

_MIN_CTX: Final = 4096  # a choice: a shorter context is of little use in a chat


def find_alternative(
    subject: Subject,
    machine: Machine,
    options: Options,
    plan: FitPlan,
    ranking: TypeRanking | None,
) -> str:
    """Return what fits `machine` when `plan` does not, in words for the user, or "".

    `ranking` are the other types of the model. Tried in this order: a shorter context, the
    per-layer embeddings on the disk, a KV cache of 8 bits, another type, a smaller model.
    """
    least = min(_MIN_CTX, subject.shape.n_ctx_train)
    if plan.largest_ctx >= least:
        return f"{plan.largest_ctx:,} tokens of context fit: --ctx {plan.largest_ctx}"
    for description, option, changed in _list_savings(subject, options):
        n_ctx = largest_context(subject.shape, subject.tensors, changed, machine.memories)
        if n_ctx >= least:
            return f"{n_ctx:,} tokens fit with {description}: {option} --ctx max"
    if ranking and ranking.best:
        name = f"{subject.model}:{ranking.best}"
        context = count_text(ranking.n_ctx, "token")
        return f"{name} fits with {context}: g4 fit {name}{machine.options}"
    return _find_smaller_model(subject, machine)


def _list_savings(subject: Subject, options: Options) -> Iterator[tuple[str, str, Options]]:
    """Yield ways to save memory: description, command-line option, and the changed options."""
    if subject.shape.n_embd_per_layer and not options.lazy_ple:
        description = "the per-layer embeddings on the disk (about a tenth slower)"
        yield description, "--lazy-ple on", replace(options, lazy_ple=True)
    if not options.type_k.is_quantized and options.flash_attn:
        q8_0 = kv_type("q8_0")
        changed = replace(options, type_k=q8_0, type_v=q8_0)
        yield "the KV cache in 8 bits", "--kv-type q8_0", changed


def _find_smaller_model(subject: Subject, machine: Machine) -> str:
    """Return the most capable model that fits as it is, else one that fits with a saving, or ""."""
    smaller = []
    for model in sorted(MODELS, key=lambda m: -m.n_params):
        other = describe_model(model.name)
        if model.is_bundled or other.weight_bytes >= subject.weight_bytes:
            continue
        n_ctx = min(COMMON_CTX, model.shape.n_ctx_train)
        options = make_chat_options(machine.host, other, n_ctx=n_ctx)
        trial = try_options(other.shape, other.tensors, options, machine.memories)
        command = f"g4 fit {model.name}{machine.options}"
        if trial.verdict.fits:
            return f"{other.name} fits with {n_ctx:,} tokens: {command}"
        smaller.append((other, options, command))
    for other, options, command in smaller:
        for description, option, changed in _list_savings(other, options):
            n_ctx = largest_context(other.shape, other.tensors, changed, machine.memories)
            if n_ctx >= _MIN_CTX:
                return (
                    f"{other.name} fits with {n_ctx:,} tokens with {description}: "
                    f"{command} {option} --ctx max"
                )
    return ""
