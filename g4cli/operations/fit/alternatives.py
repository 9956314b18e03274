"""What fits instead, when a model does not: the next best, as a sentence with the command to type."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from g4cli.estimate import Options
    from g4cli.fit import Advice, Report
    from g4cli.operations.fit.machine import Machine
    from g4cli.operations.fit.subject import Subject

_SHORTEST: Final = 4096  # a shorter context is no use in a chat


def instead(
    subject: Subject, machine: Machine, options: Options, report: Report, advice: Advice | None
) -> str:
    """Return what fits `machine` instead of what `report` refuses, "" if nothing does.

    In this order: a shorter context, the table of per-layer embeddings on the disk, the cache in 8 bits,
    another type, a smaller model.
    """
    from g4cli.fit import largest_context

    largest = report.largest_ctx
    if largest >= min(_SHORTEST, subject.shape.n_ctx_train):
        return f"{largest:,} tokens of context fit: --ctx {largest}"
    for words, option, changed in _savings(subject, options):
        found = largest_context(subject.shape, subject.tensors, changed, machine.memories)
        if found >= _SHORTEST:
            return f"{found:,} tokens fit with {words}: {option} --ctx max"
    if advice and advice.best:
        name = f"{subject.model}:{advice.best}"
        return f"{name} fits with {advice.n_ctx:,} tokens: g4 fit {name}"
    return _smaller_model(subject, machine)


def _savings(subject: Subject, options: Options) -> Iterator[tuple[str, str, Options]]:
    """Yield what can be saved, the option for it, and the options with it."""
    from g4cli.estimate import kv_type

    if subject.shape.n_embd_per_layer and not options.lazy_ple:
        words = "the per-layer embeddings on the disk (about a tenth slower)"
        yield words, "--lazy-ple on", replace(options, lazy_ple=True)
    if not options.type_k.is_quantized and options.flash_attn:
        kind = kv_type("q8_0")
        yield "the KV cache in 8 bits", "--kv-type q8_0", replace(options, type_k=kind, type_v=kind)


def _smaller_model(subject: Subject, machine: Machine) -> str:
    from g4cli.core.registry import MODELS
    from g4cli.fit import COMMON_CTX, attempt
    from g4cli.operations.fit.drafting import with_guesses
    from g4cli.operations.fit.subject import from_registry, run_options

    own = sum(t.nbytes for t in subject.tensors)
    for model in sorted(MODELS, key=lambda m: -m.n_params):
        other = from_registry(model.name)
        if model.is_bundled or sum(t.nbytes for t in other.tensors) >= own:
            continue
        n_ctx = min(COMMON_CTX, model.shape.n_ctx_train)
        trial = replace(with_guesses(run_options(machine.host, other), other, "auto"), n_ctx=n_ctx)
        if attempt(other.shape, other.tensors, trial, machine.memories).verdict.fits:
            return f"{other.name} fits with {n_ctx:,} tokens: g4 fit {model.name}"
    return ""
