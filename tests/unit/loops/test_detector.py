"""The loop detector on made-up streams; tests/bench/bench_loops.py measures it on documents."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Iterable
from itertools import chain, cycle, islice
from math import nan
from types import FrameType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g4cli.loops.detector import MAX_PERIOD, Loop, LoopDetector
from tests.support.digits import GEMMA4_DIGITS

DASHES = [7243, 107]  # "---", "\n" in Gemma 4's vocabulary


def find_loop(stream: Iterable[int]) -> tuple[int, Loop] | None:
    """Return how many tokens were fed when a loop was found, and the loop."""
    detector = LoopDetector(digits=GEMMA4_DIGITS)
    for count, token in enumerate(stream, 1):
        loop = detector.feed(token)
        if loop is not None:
            return count, loop
    return None


def make_prose(n: int, seed: int = 1) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(300, 30_000) for _ in range(n)]


def test_dashes_from_the_first_token_stop_within_256() -> None:
    found = find_loop(DASHES * 200)
    assert found is not None
    count, loop = found
    assert count <= 256
    assert (loop.kind, loop.period, loop.onset) == ("exact", 2, 0)
    assert loop.covered == count


@pytest.mark.slow
@pytest.mark.parametrize("before", [0, 1, 5, 700, 20_000])
@pytest.mark.parametrize("period", [1, 2, 3, 7, 64, 65, 300, MAX_PERIOD])
def test_every_period_is_found_with_its_onset(period: int, before: int) -> None:
    unit = list(range(1000, 1000 + period))
    found = find_loop(make_prose(before) + unit * (max(400, 4 * period) // period + 1))
    assert found is not None
    _, loop = found
    assert (loop.period, loop.onset) == (period, before)


LINE, PARAGRAPH = 107, 108  # "\n" and "\n\n" in Gemma 4's vocabulary


def is_text(token: int) -> bool:
    return token >= 500


def count_line_ends(token: int) -> int:
    return {LINE: 1, PARAGRAPH: 2}.get(token, 0)


def find_certain_loop(stream: Iterable[tuple[int, float]]) -> tuple[int, Loop] | None:
    """Return the same as `find_loop` for a stream of tokens with their probabilities.

    Probabilities are told when they are wanted, as the engine does.
    """
    detector = LoopDetector(is_text, GEMMA4_DIGITS, count_line_ends)
    for count, (token, probability) in enumerate(stream, 1):
        wanted = probability if detector.wants_probability else None
        loop = detector.feed(token, wanted)
        if loop is not None:
            return count, loop
    return None


@pytest.mark.parametrize(("period", "most"), [(1, 170), (2, 170), (3, 170), (30, 180), (100, 320)])
def test_a_cycle_of_certain_tokens_stops_earlier(period: int, most: int) -> None:
    unit = list(range(1000, 1000 + period))
    found = find_certain_loop([(token, 0.95) for token in unit * 700])
    alone = find_loop(unit * 700)
    assert found is not None
    assert alone is not None
    assert found[1].onset == alone[1].onset == 0
    assert found[0] == found[1].covered <= most
    assert most < alone[0]


@pytest.mark.parametrize(("period", "copies"), [(53, 4), (63, 4), (64, 3), (200, 3)])
def test_a_cycle_of_certain_tokens_has_as_many_copies_as_any(period: int, copies: int) -> None:
    """A tale may tell three times what happens three times."""
    unit = [(token, 0.99) for token in range(1000, 1000 + period)]
    found = find_certain_loop(unit * 10)
    assert found is not None
    assert copies * period <= found[0] <= copies * period + 8


def test_a_cycle_may_hesitate_at_single_tokens() -> None:
    """Loops of trained models give the first token of a copy less than the others."""
    stream = [(token, 0.5 if token == 1000 else 0.99) for token in [*range(1000, 1020)] * 50]
    found = find_certain_loop(stream)
    assert found is not None
    assert found[0] <= 200


@pytest.mark.parametrize("probability", [0.0, 0.4, 0.85, nan])
def test_a_cycle_with_doubts_stops_as_by_its_tokens_alone(probability: float) -> None:
    stream = [(token, probability) for token in [*range(1000, 1020)] * 50]
    assert find_certain_loop(stream) == find_loop(token for token, _ in stream)


@pytest.mark.parametrize(
    "row",
    [
        [*range(1000, 1008), LINE],  # a line that is written a hundred times
        [1000, LINE, *range(1001, 1010), PARAGRAPH],
        [1000, 1001, 1002, 30, 31, 32, 33],  # mostly signs
        [236770, 236771, *range(1000, 1006)],  # "10" and six words
    ],
)
def test_rows_signs_and_numbers_stop_as_by_their_tokens_alone(row: list[int]) -> None:
    stream = [(token, 1.0) for token in row * 80]
    assert find_certain_loop(stream) == find_loop(token for token, _ in stream)


@pytest.mark.parametrize("end", [[PARAGRAPH], [LINE, LINE], [LINE, PARAGRAPH]])
def test_paragraphs_are_running_text(end: list[int]) -> None:
    found = find_certain_loop([(token, 1.0) for token in [*range(1000, 1020), *end] * 30])
    assert found is not None
    assert found[0] <= 180
    # The unit may begin anywhere, between two line ends too.
    assert find_certain_loop([(t, 1.0) for t in [*end[1:], *[*range(1000, 1020), *end] * 30]])


def test_without_the_line_ends_of_a_vocabulary_probabilities_change_nothing() -> None:
    stream = [*range(1000, 1020)] * 30
    detector = LoopDetector(is_text, GEMMA4_DIGITS)
    loops = [detector.feed(token, 1.0) for token in stream]
    assert loops.index(next(filter(None, loops))) + 1 == 392


def test_a_short_repetition_that_someone_asked_for_is_not_stopped() -> None:
    """40 certain copies of a short row in a text."""
    tokens = [*make_prose(200), *[500, 501, 502] * 40, *make_prose(200, seed=2)]
    assert find_certain_loop([(token, 1.0) for token in tokens]) is None


def test_an_unknown_probability_begins_the_count_anew() -> None:
    detector = LoopDetector(is_text, GEMMA4_DIGITS, count_line_ends)
    loops = [detector.feed(700, 1.0 if n % 50 else None) for n in range(249)]
    assert loops == [None] * 249


def test_probabilities_are_wanted_only_while_the_stream_repeats() -> None:
    detector = LoopDetector(digits=GEMMA4_DIGITS)
    for token in make_prose(500):
        detector.feed(token)
        assert not detector.wants_probability
    for token in [5, 6, 7] * 12:
        detector.feed(token, 0.5)
    assert detector.wants_probability


def test_a_loop_once_found_stays() -> None:
    detector = LoopDetector(digits=GEMMA4_DIGITS)
    loops = [detector.feed(token) for token in [*[5, 6, 7] * 200, *make_prose(50)]]
    found = loops.index(next(loop for loop in loops if loop))
    assert loops[:found] == [None] * 391
    assert loops[found:] == [Loop("exact", 3, 0, 392)] * 259


def test_text_without_repetition_is_left_alone() -> None:
    assert find_loop(make_prose(30_000)) is None


def test_a_repetition_that_ends_is_left_alone() -> None:
    table = [236812, 236787] * 100
    assert find_loop(table + make_prose(500) + table) is None


@pytest.mark.slow
def test_memory_stays_bounded() -> None:
    detector = LoopDetector(digits=GEMMA4_DIGITS)
    sizes = []
    for count, token in enumerate(make_prose(100_000), 1):
        detector.feed(token)
        if count % 10_000 == 0:
            sizes.append(len(pickle.dumps(detector)))
    assert max(sizes[5:]) < 1.5 * max(sizes[:5])


def add_noise(unit: list[int], copies: int, rate: float, seed: int = 3) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(300, 30_000) if rng.random() < rate else t for t in unit * copies]


@pytest.mark.parametrize("period", [3, 8, 20])
def test_a_cycle_with_stray_tokens_is_found(period: int) -> None:
    found = find_loop(
        make_prose(100) + add_noise(list(range(1000, 1000 + period)), 600 // period, 0.02)
    )
    assert found is not None
    _, loop = found
    assert (loop.kind, loop.period) == ("noisy", period)
    assert abs(loop.onset - 100) <= 64


DIGIT = {value: token for token, value in GEMMA4_DIGITS.items()}


def count_up(template: list[int], numbers: Iterable[int]) -> list[int]:
    """Return copies of `template` with each -1 replaced by the digits of the next number."""
    out: list[int] = []
    left = iter(numbers)
    while True:
        for token in template:
            if token == -1:
                number = next(left, None)
                if number is None:
                    return out
                out += [DIGIT[int(c)] for c in str(number)]
            else:
                out.append(token)


def test_a_counter_that_goes_on_is_found_and_a_short_one_is_not() -> None:
    template = [4539, 236743, -1, 236787, 7000, 107]
    found = find_loop(count_up(template, range(1, 300)))
    assert found is not None
    assert (found[1].kind, found[1].period) == ("counter", 6)
    assert find_loop(count_up(template, range(1, 100))) is None


def test_numbers_that_do_not_count_are_left_alone() -> None:
    rng = random.Random(5)
    rows = count_up(
        [4539, 236743, -1, 236787, 7000, 107], (rng.randrange(100, 999) for _ in range(300))
    )
    assert find_loop(rows) is None


def test_babble_of_few_tokens_is_found_and_a_grid_is_not() -> None:
    rng = random.Random(6)
    found = find_loop(rng.choice([11, 12, 13]) for _ in range(500))
    assert found is not None
    assert found[1].kind == "few-tokens"
    zero, space, newline = 236771, 236743, 107
    matrix = ([zero, space] * 14 + [zero, newline]) * 15
    assert find_loop(matrix + make_prose(100)) is None


def test_records_of_one_layout_are_left_alone() -> None:
    rng = random.Random(7)
    layout = list(range(2000, 2040))
    records = []
    for _ in range(60):
        first_value, second_value = rng.randrange(5000, 90_000), rng.randrange(5000, 90_000)
        records += [*layout[:10], first_value, *layout[10:25], second_value, *layout[25:]]
    assert find_loop(records) is None


def test_rows_without_text_may_go_on_for_longer() -> None:
    row = list(range(20, 36))
    counts = []
    for answer in (False, True):
        detector = LoopDetector({True: bool, False: lambda _: False}[answer])
        fed = enumerate(row * 50, 1)
        counts.append(next(n for n, t in fed if detector.feed(t)))
    assert counts == [640, 392]


def test_the_onset_is_found_where_the_unit_repeats_itself() -> None:
    unit = [50, 51] * 12 + [52, 53, 54, 55, 56, 57, 58]
    found = find_loop(make_prose(300) + unit * 40)
    assert found is not None
    _, loop = found
    assert (loop.kind, loop.period, loop.onset) == ("exact", len(unit), 300)


@pytest.mark.parametrize("words", [2, 3, 8, 12])
def test_babble_of_words_with_separators_is_found(words: int) -> None:
    rng = random.Random(words)
    stream = chain.from_iterable((rng.randrange(500, 500 + words), 236764) for _ in range(700))
    found = find_loop(make_prose(100) + list(stream))
    assert found is not None
    assert found[1].kind == "few-tokens"
    assert words + 1 <= found[1].period <= 16  # a few of the text before may count


def test_digits_in_any_order_are_data() -> None:
    rng = random.Random(8)
    bits = [DIGIT[rng.randrange(2)] for _ in range(700)]
    assert find_loop(bits + make_prose(100)) is None
    decimals = [DIGIT[rng.randrange(10)] for _ in range(5000)]
    assert find_loop(decimals) is None


def test_the_same_phrases_in_any_order_are_found() -> None:
    rng = random.Random(9)
    phrases = [make_prose(n, seed=n) for n in (9, 12, 15)]
    stream = list(chain.from_iterable(rng.choice(phrases) for _ in range(200)))
    found = find_loop(make_prose(200) + stream)
    assert found is not None
    assert found[1].kind == "few-phrases"
    assert found[0] < 200 + 1600


def test_a_cycle_with_much_noise_is_found_in_the_longer_look() -> None:
    unit = list(range(1000, 1030))
    found = find_loop(make_prose(100) + add_noise(unit, 80, 0.07))
    assert found is not None
    assert found[1].kind == "noisy"


def test_rows_that_end_differently_are_a_grid() -> None:
    rng = random.Random(10)
    row = [40, 41, 42] * 12
    rows = [t for _ in range(16) for t in (*row, rng.randrange(5000, 9000), 107)]
    assert find_loop(rows) is None


def clock_lines(n: int) -> list[int]:
    """Return `n` lines like "12:07:41: again"."""
    out = []
    for i in range(43_000, 43_000 + n):
        for number, after in ((i // 3600, 236787), (i // 60 % 60, 236787), (i % 60, 236787)):
            out += [DIGIT[int(c)] for c in f"{number:02d}"] + [after]
        out += [3000, 3001, 107]
    return out


@pytest.mark.parametrize(
    "stream",
    [
        clock_lines(200),
        [
            t for i in range(300) for t in count_up([4539, -1, 7000 + i % 3, 107], [i])
        ],  # three lines in turn
        count_up([4539, -1, 900, -1, 107], (n for i in range(300) for n in (i, i + 1))),
        count_up([-1, 107], range(100, 900)),
    ],
    ids=["times", "three lines", "two numbers", "bare"],
)
def test_every_sort_of_counter_is_found(stream: list[int]) -> None:
    found = find_loop(make_prose(100) + stream)
    assert found is not None
    assert found[1].kind == "counter"


def test_a_table_of_squares_and_a_short_count_are_left_alone() -> None:
    squares = count_up([-1, 900, -1, 107], (n for i in range(10, 160) for n in (i, i * i)))
    assert find_loop(squares) is None
    assert find_loop(count_up([-1, 107], range(1, 270)) + make_prose(50)) is None


def test_integers_of_numpy_are_tokens_too() -> None:
    assert find_loop(np.array(DASHES * 200, dtype=np.int32)) == find_loop(DASHES * 200)


ids = st.one_of(
    st.integers(), st.integers(-3, 3), st.sampled_from([*GEMMA4_DIGITS, 107]), st.integers(0, 2**70)
)


@pytest.mark.slow
@settings(max_examples=60)
@given(st.lists(ids, max_size=40), st.lists(ids, min_size=1, max_size=60), st.integers(1, 1500))
def test_any_ids_are_taken_and_a_cycle_of_any_is_found(
    before: list[int], unit: list[int], n: int
) -> None:
    detector = LoopDetector(digits=GEMMA4_DIGITS)
    stream = list(islice(chain(before, cycle(unit)), len(before) + n))
    loops = [detector.feed(token) for token in stream]
    for count, loop in enumerate(loops, 1):
        if loop is not None and (loop is not loops[count - 2] or count == 1):
            assert loop.onset >= 0
            assert loop.onset + loop.covered == count
    if n >= 700:
        assert loops[-1] is not None


def count_lines(stream: Iterable[int]) -> list[int]:
    """Return the lines of the detector that ran for each 2,048 tokens."""
    lines, totals = 0, list[int]()

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        nonlocal lines
        if "loops" not in frame.f_code.co_filename:
            return None
        lines += event == "line"
        return trace

    detector = LoopDetector(digits=GEMMA4_DIGITS)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for count, token in enumerate(stream, 1):
            detector.feed(token)
            if count % 2048 == 0:
                totals.append(lines)
                lines = 0
    finally:
        sys.settrace(before)
    return totals


def make_records() -> list[int]:
    """Return what keeps every search busy and is no loop: rows of a layout with new values."""
    rng = random.Random(11)
    layout = list(range(2000, 2030))
    return [t for _ in range(700) for t in (*layout[:9], rng.randrange(9**5), *layout[9:])][
        : 2048 * 9
    ]


@pytest.mark.slow
@pytest.mark.parametrize("stream", [make_prose(2048 * 9), make_records()], ids=["prose", "records"])
def test_the_work_for_a_token_does_not_grow(stream: list[int]) -> None:
    totals = count_lines(stream)
    assert len(totals) == 9
    assert max(totals) <= 2048 * 120
    assert max(totals[5:]) <= 1.1 * max(totals[1:5])
