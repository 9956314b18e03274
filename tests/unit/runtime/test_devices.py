"""Which matrices llama.cpp is told to keep on the CPU."""

from __future__ import annotations

import re

import pytest

from g4cli.core.inventory import text_tensors
from g4cli.core.units import MORE_LAYERS
from g4cli.estimate.placement import is_expert
from g4cli.runtime.llama.devices import make_expert_pattern
from tests.support.builders import shapes


@pytest.mark.parametrize("n_layers", [1, 2, 12, MORE_LAYERS])
def test_the_experts_of_the_first_layers_are_matched(n_layers: int) -> None:
    pattern = re.compile(make_expert_pattern(n_layers))
    names = [t.name for t in text_tensors(shapes.A4B)]
    found = {name for name in names if pattern.search(name)}
    assert found == {n for n in names if is_expert(n) and int(n.split(".")[1]) < n_layers}
    assert found
