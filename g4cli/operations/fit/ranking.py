"""The types of a model beside this machine's memory: what `g4 fit` ranks and what its matrix holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from g4cli.estimate import Options, Tensor
    from g4cli.fit import Advice, Memory
    from g4cli.host import HostFacts
    from g4cli.operations.fit.subject import Subject


# One type per step of size: what people choose between. The others lie between two of these, and each
# more would cost every `g4 fit` ten milliseconds.
RANKED: Final = ("bf16", "q8_0", "q6_k", "q4_k_m", "q4_0", "q3_k_m")


def variants_of(
    name: str, kinds: Sequence[str] = RANKED
) -> tuple[tuple[str, Sequence[Tensor]], ...]:
    """Return those of `kinds` that the model can be had in, with its tensors."""
    from g4cli.core.registry import parse_name
    from g4cli.operations.fit.subject import typed_tensors

    model = parse_name(name).model
    return tuple((kind, typed_tensors(model.name, kind)) for kind in kinds if kind in model.types)


def trained_type(name: str) -> str:
    """Return the type that Google trained the model `name` for, or an empty string."""
    from g4cli.core.registry import parse_name

    published = parse_name(name).model.published
    return next((p.type for p in published if p.is_qat), "")


def advice_for(
    subject: Subject,
    options: Options,
    memories: Sequence[Memory],
    host: HostFacts,
    n_ctx: int,
    kinds: Sequence[str] = RANKED,
) -> Advice | None:
    """Return the ranking of those `kinds` that the model has, or None for a file that has no name."""
    from g4cli.fit import rank_types
    from g4cli.operations.fit.subject import run_options

    if subject.model is None:
        return None

    def options_for(tensors: Sequence[Tensor]) -> Options:
        # A table that is small in one type stays in memory, large in another on the disk.
        lazy = options.lazy_ple or run_options(host, replace(subject, tensors=tensors)).lazy_ple
        return replace(options, lazy_ple=lazy)

    return rank_types(
        subject.shape,
        variants_of(subject.model, kinds),
        options_for,
        memories,
        n_ctx=n_ctx,
        trained_for=trained_type(subject.model),
    )


def matrix_rows(host: HostFacts, memories: Sequence[Memory], kv_type: str) -> list[dict[str, Any]]:
    """Return one row per model and type: what it takes with COMMON_CTX tokens, and the largest context."""
    from g4cli.core.registry import MADE_TYPES, MODELS
    from g4cli.fit import COMMON_CTX, rank_types
    from g4cli.operations.fit.drafting import with_guesses
    from g4cli.operations.fit.subject import from_registry, run_options

    rows: list[dict[str, Any]] = []
    for model in MODELS:
        subject = from_registry(model.name)

        def options_for(tensors: Any, subject: Subject = subject) -> Any:
            typed = replace(subject, tensors=tensors)
            return with_guesses(run_options(host, typed, kv_type=kv_type), typed, "auto")

        n_ctx = min(COMMON_CTX, model.shape.n_ctx_train)
        advice = rank_types(
            model.shape, variants_of(model.name, MADE_TYPES), options_for, memories, n_ctx=n_ctx
        )
        rows += [{"model": model.name, "n_ctx": n_ctx, **asdict(row)} for row in advice.types]
    return rows
