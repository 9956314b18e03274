"""Rank the types of one model, or of all models, for a machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Final

from g4cli.core.registry import MADE_TYPES, MODELS, find_model
from g4cli.estimate import Options
from g4cli.fit.context import COMMON_CTX
from g4cli.fit.memory import Memory
from g4cli.fit.ranking import TypeRanking, TypeVariant, rank_types
from g4cli.host import HostFacts
from g4cli.operations.fit.options import make_chat_options, make_run_options
from g4cli.operations.fit.subject import Subject, describe_model

# One type for each step of size. Each further type, between two of these, would cost every `g4 fit`
# ten milliseconds.
RANKED: Final = ("bf16", "q8_0", "q6_k", "q4_k_m", "q4_0", "q3_k_m")


def rank_model_types(
    subject: Subject,
    options: Options,
    memories: Sequence[Memory],
    host: HostFacts,
    n_ctx: int,
    kinds: Sequence[str] = RANKED,
) -> TypeRanking:
    """Return the ranking, with `n_ctx` tokens, of those types in `kinds` that the model has.

    `subject` is a model of the registry.
    """
    assert subject.model is not None
    model = find_model(subject.model)
    variants = []
    precise_first = sorted(kinds, key=MADE_TYPES.index)
    for listed in _list_variants(model.name, precise_first):
        # The tensors of the pulled file, if the subject is one, not those that g4's recipe gives.
        typed = subject if listed.name == subject.name else listed
        # The embedding table per layer is small in one type and stays in memory; in another it is
        # large and stays on the disk.
        lazy = options.lazy_ple or make_run_options(host, typed).lazy_ple
        typed_options = replace(options, lazy_ple=lazy, unlisted_weight_bytes=typed.unlisted_bytes)
        variants.append(_make_variant(typed, typed_options))
    trained_for = next((p.type for p in model.published if p.is_qat), "")
    variants = drop_dominated(variants, keep=trained_for)
    return rank_types(subject.shape, variants, memories, n_ctx=n_ctx, trained_for=trained_for)


def drop_dominated(variants: Sequence[TypeVariant], *, keep: str = "") -> list[TypeVariant]:
    """Return `variants` without those that are not smaller than a more precise one.

    `variants` begin with the most precise type. Types of few bits leave some tensors in others, so
    that Q3_K_M of a small model may be larger than its Q4_K_M. `keep` is never left out.
    """
    kept: list[TypeVariant] = []
    sizes: list[int] = []
    for variant in variants:
        size = sum(t.nbytes for t in variant.tensors) + variant.options.unlisted_weight_bytes
        if variant.type == keep or all(size < other for other in sizes):
            kept.append(variant)
            sizes.append(size)
    return kept


def rank_all_models(
    host: HostFacts, memories: Sequence[Memory], kv_type: str
) -> list[dict[str, Any]]:
    """Return a row for each model and type: memory for COMMON_CTX tokens, the largest context.

    Raises UsageError for an unknown KV cache type.
    """
    rows: list[dict[str, Any]] = []
    for model in MODELS:
        variants = [
            _make_variant(typed, make_chat_options(host, typed, kv_type=kv_type))
            for typed in _list_variants(model.name, MADE_TYPES)
        ]
        n_ctx = min(COMMON_CTX, model.shape.n_ctx_train)
        ranking = rank_types(model.shape, variants, memories, n_ctx=n_ctx)
        rows += [{"model": model.name, "n_ctx": n_ctx, **asdict(row)} for row in ranking.types]
    return rows


def _list_variants(name: str, kinds: Sequence[str]) -> Iterator[Subject]:
    types = find_model(name).types
    return (describe_model(f"{name}:{kind}") for kind in kinds if kind in types)


def _make_variant(subject: Subject, options: Options) -> TypeVariant:
    return TypeVariant(subject.name.partition(":")[2], subject.tensors, options)
