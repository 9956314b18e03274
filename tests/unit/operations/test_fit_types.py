"""Types that are larger and less precise than another are never offered."""

from __future__ import annotations

import pytest

from g4cli.core.registry import MODELS
from g4cli.estimate import Options
from g4cli.fit.ranking import TypeVariant
from g4cli.operations.fit.ranking import RANKED, drop_dominated
from g4cli.operations.fit.subject import describe_model


def make_variants(name: str, kinds: tuple[str, ...]) -> list[TypeVariant]:
    subjects = {kind: describe_model(f"{name}:{kind}") for kind in kinds}
    return [
        TypeVariant(
            kind,
            subject.tensors,
            Options(n_ctx=4096, unlisted_weight_bytes=subject.unlisted_bytes),
        )
        for kind, subject in subjects.items()
    ]


def size_of(variant: TypeVariant) -> int:
    return sum(t.nbytes for t in variant.tensors) + variant.options.unlisted_weight_bytes


@pytest.mark.parametrize("model", [m.name for m in MODELS if m.name != "tiny"])
def test_less_precise_types_are_smaller(model: str) -> None:
    kinds = tuple(kind for kind in RANKED if kind in describe_types(model))
    sizes = [size_of(variant) for variant in drop_dominated(make_variants(model, kinds))]
    assert sizes == sorted(set(sizes), reverse=True)


def describe_types(model: str) -> tuple[str, ...]:
    return next(m.types for m in MODELS if m.name == model)


def test_q3_k_m_of_e2b_is_larger_than_q4_k_m() -> None:
    larger, smaller = make_variants("e2b", ("q4_k_m", "q3_k_m"))
    assert size_of(smaller) >= size_of(larger)
    assert [v.type for v in drop_dominated([larger, smaller])] == ["q4_k_m"]
    assert [v.type for v in drop_dominated([larger, smaller], keep="q3_k_m")] == [
        "q4_k_m",
        "q3_k_m",
    ]
