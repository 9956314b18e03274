"""Ranges of bytes, compared with sets of the numbers in them."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g4cli.core.spans import find_gaps, merge_spans

spans = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 20)).map(lambda p: (p[0], p[0] + p[1])), max_size=8
)


@pytest.mark.slow
@given(spans)
def test_merging_keeps_every_byte_once(items: list[tuple[int, int]]) -> None:
    covered = {n for a, b in items for n in range(a, b)}
    result = merge_spans(items)
    assert {n for a, b in result for n in range(a, b)} == covered
    assert sum(b - a for a, b in result) == len(covered)
    assert all(b < c for (_, b), (c, _) in pairwise(result))


@pytest.mark.slow
@given(spans)
def test_gaps_are_what_is_not_covered(items: list[tuple[int, int]]) -> None:
    missing = find_gaps(items, 70)
    covered = {n for a, b in items for n in range(a, b)}
    assert [n for a, b in missing for n in range(a, b)] == [
        n for n in range(70) if n not in covered
    ]
    assert all(a < b for a, b in missing)
