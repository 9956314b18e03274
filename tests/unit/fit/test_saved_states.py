"""Saved states in the answer of `g4 fit`: a term on the disk, which no memory is counted for."""

from __future__ import annotations

import pytest

from g4cli.estimate import HOST, Estimate, Term
from g4cli.fit.memory import Memory, count_spare_bytes
from g4cli.operations.fit.answer import add_saved_states

ESTIMATE = Estimate(
    (Term("weights", HOST, "weights", 700), Term("KV cache, full", HOST, "kv", 300))
)


def test_a_state_takes_as_much_disk_as_the_kv_cache_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g4cli.operations.fit.answer.choose_limit", lambda _: 1000)
    found = add_saved_states(ESTIMATE)
    assert found.sum_bytes(group="disk") == 300
    assert found.total_bytes == ESTIMATE.total_bytes


def test_no_term_where_states_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g4cli.operations.fit.answer.choose_limit", lambda _: 0)
    assert add_saved_states(ESTIMATE) == ESTIMATE


@pytest.mark.parametrize(("available", "spare"), [(9000, 9000 - 1000 - 1250), (2000, 0)])
def test_what_a_run_and_the_reserve_leave_is_spare(available: int, spare: int) -> None:
    memories = [Memory(HOST, 10_000, available), Memory("CUDA0", 10_000, 10_000)]
    assert count_spare_bytes(ESTIMATE, memories) == spare
