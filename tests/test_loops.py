"""The loop detector on made-up streams; tests/bench/bench_loops.py measures it on documents."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from g4cli.loops import GEMMA4_DIGITS, MAX_PERIOD, Loop, LoopDetector

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


def noisy(unit: list[int], copies: int, rate: float, seed: int = 3) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(300, 30_000) if rng.random() < rate else t for t in unit * copies]


@pytest.mark.parametrize("period", [3, 8, 20])
def test_a_cycle_with_stray_tokens_is_found(period: int) -> None:
    found = first(prose(100) + noisy(list(range(1000, 1000 + period)), 600 // period, 0.02), "stop")
    assert found is not None
    _, loop = found
    assert (loop.kind, loop.period) == ("noisy", period)
    assert abs(loop.onset - 100) <= 64


DIGIT = {value: token for token, value in GEMMA4_DIGITS.items()}


def counted(template: list[int], numbers: Iterable[int]) -> list[int]:
    """Return copies of `template` with each -1 replaced by the digits of the next number."""
    out = []
    for number in numbers:
        for token in template:
            out += [DIGIT[int(c)] for c in str(number)] if token == -1 else [token]
    return out


def test_a_counter_that_goes_on_is_found_and_a_short_one_is_not() -> None:
    template = [4539, 236743, -1, 236787, 7000, 107]
    found = first(counted(template, range(1, 300)), "stop")
    assert found is not None
    assert (found[1].kind, found[1].period) == ("counter", 6)
    assert first(counted(template, range(1, 100)), "stop") is None


def test_numbers_that_do_not_count_are_left_alone() -> None:
    rng = random.Random(5)
    rows = counted([4539, 236743, -1, 236787, 7000, 107], (rng.randrange(100, 999) for _ in range(300)))
    assert first(rows, "stop") is None


def test_babble_of_few_tokens_is_found_and_a_grid_is_not() -> None:
    rng = random.Random(6)
    found = first((rng.choice([11, 12, 13]) for _ in range(500)), "stop")
    assert found is not None
    assert found[1].kind == "few-tokens"
    zero, space, newline = 236771, 236743, 107
    matrix = ([zero, space] * 14 + [zero, newline]) * 15
    assert first(matrix + prose(100), "stop") is None


def test_records_of_one_layout_are_left_alone() -> None:
    rng = random.Random(7)
    layout = list(range(2000, 2040))
    records = []
    for _ in range(60):
        first_value, second_value = rng.randrange(5000, 90_000), rng.randrange(5000, 90_000)
        records += [*layout[:10], first_value, *layout[10:25], second_value, *layout[25:]]
    assert first(records, "stop") is None


def test_rows_without_text_may_go_on_for_longer() -> None:
    row = list(range(20, 36))
    counts = []
    for answer in (False, True):
        detector = LoopDetector(lambda _, answer=answer: answer)
        fed = enumerate(row * 50, 1)
        counts.append(next(n for n, t in fed if (loop := detector.feed(t)) and loop.stage == "stop"))
    assert counts == [512, 392]
