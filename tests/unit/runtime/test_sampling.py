"""Sampling parameters that a file recommends."""

from __future__ import annotations

import math

import pytest

from g4cli.core.gguf_header import Header
from g4cli.core.gguf_values import Value, bool_value, float32_value, int32_value, string_value
from g4cli.runtime.engine.options import find_recommended_sampling


def find(**values: Value) -> dict[str, float]:
    keys = {f"general.sampling.{name}": value for name, value in values.items()}
    return find_recommended_sampling(Header("x.gguf", 3, 32, keys, {}, 0, 0))


def test_what_a_file_recommends() -> None:
    found = find(temp=float32_value(0.5), top_k=int32_value(20), penalty_repeat=float32_value(1.25))
    assert found == {"temp": 0.5, "top_k": 20, "repeat_penalty": 1.25}
    assert find(temp=int32_value(0)) == {"temp": 0.0}


@pytest.mark.parametrize(
    "value",
    [float32_value(n) for n in (math.nan, math.inf, -math.inf, -0.5)]
    + [bool_value(True), string_value("1")],
)
def test_what_no_sampler_can_use_is_not_recommended(value: Value) -> None:
    assert find(temp=value, top_p=value, top_k=value, min_p=value, penalty_repeat=value) == {}


def test_a_penalty_of_zero_would_be_divided_by() -> None:
    assert find(penalty_repeat=float32_value(0)) == {}
