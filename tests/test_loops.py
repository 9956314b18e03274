"""The loop detector on made-up streams; tests/bench/bench_loops.py measures it on documents."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from g4cli.loops import MAX_PERIOD, Loop, LoopDetector

DASHES = [7243, 107]  # "---", "\n" in Gemma 4's vocabulary


def first(stream: Iterable[int], stage: str) -> tuple[int, Loop] | None:
    """Return how many tokens were fed when `stage` was first reported, and the report."""
    detector = LoopDetector()
    for count, token in enumerate(stream, 1):
        loop = detector.feed(token)
        if loop is not None and loop.stage == stage:
            return count, loop
    return None


def prose(n: int, seed: int = 1) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(300, 30_000) for _ in range(n)]


def test_dashes_from_the_first_token_stop_within_256() -> None:
    found = first(DASHES * 200, "stop")
    assert found is not None
    count, loop = found
    assert count <= 256
    assert (loop.kind, loop.period, loop.onset) == ("exact", 2, 0)
    assert loop.covered == count


@pytest.mark.parametrize("before", [0, 1, 5, 700, 20_000])
@pytest.mark.parametrize("period", [1, 2, 3, 7, 64, 65, 300, MAX_PERIOD])
def test_every_period_is_found_with_its_onset(period: int, before: int) -> None:
    unit = list(range(1000, 1000 + period))
    found = first(prose(before) + unit * (max(400, 4 * period) // period + 1), "stop")
    assert found is not None
    _, loop = found
    assert (loop.period, loop.onset) == (period, before)


def test_suspicion_comes_once_and_before_the_stop() -> None:
    detector = LoopDetector()
    loops = [loop for token in [5, 6, 7] * 200 if (loop := detector.feed(token))]
    assert [loop.stage for loop in loops[:2]] == ["suspect", "stop"]
    assert loops[0].covered == 96
    assert loops[1:] == [loops[1]] * len(loops[1:])


def test_text_without_repetition_is_left_alone() -> None:
    assert first(prose(30_000), "suspect") is None


def test_a_repetition_that_ends_is_left_alone() -> None:
    table = [236812, 236787] * 100
    assert first(table + prose(500) + table, "stop") is None


def test_memory_stays_bounded() -> None:
    detector = LoopDetector()
    for token in prose(100_000):
        detector.feed(token)
    assert len(detector._tokens) < 20_000
    assert len(detector._places) + len(detector._older_places) < 20_000
