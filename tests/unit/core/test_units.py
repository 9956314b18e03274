"""Sizes, times and counts as text, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g4cli.core.errors import UsageError
from g4cli.core.units import (
    LONGEST_S,
    count_text,
    duration_text,
    exact_size_text,
    measured_text,
    parse_count,
    parse_duration,
    parse_size,
    rate_text,
    size_text,
)

KIB, MIB, GIB, TIB = (1024**n for n in (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (10 * KIB, "10.0 KiB"),
        (100 * KIB, "100 KiB"),
        (1023.995 * KIB, "1.00 MiB"),
        (MIB - 1, "1.00 MiB"),
        (9.994 * MIB, "9.99 MiB"),
        (9.996 * MIB, "10.0 MiB"),
        (99.96 * MIB, "100 MiB"),
        (2_841_481_184, "2.65 GiB"),
        (GIB, "1.00 GiB"),
        (3 * TIB, "3.00 TiB"),
        (-2 * GIB, "-2.00 GiB"),
    ],
)
def test_sizes(n: float, expected: str) -> None:
    assert size_text(n) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (count_text(1, "tensor"), "1 tensor"),
        (count_text(0, "tensor"), "0 tensors"),
        (count_text(1200, "tensor"), "1,200 tensors"),
        (count_text(1, "byte", "are"), "1 byte is"),
        (count_text(2, "byte", "are"), "2 bytes are"),
        (count_text(1, "tensor", "contain", of=42), "1 of 42 tensors contains"),
        (count_text(3, "tensor", "contain", of=42), "3 of 42 tensors contain"),
        (count_text(1, "answer", "were", of=1), "1 of 1 answer was"),
    ],
)
def test_counts(text: str, expected: str) -> None:
    assert text == expected


@given(st.integers(0, 2**50))
def test_a_size_is_right_to_half_a_percent(n: int) -> None:
    number, unit = size_text(n).split()
    back = float(number) * {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": TIB}[unit]
    assert abs(back - n) <= n * 0.00501
    assert len(number.replace(".", "")) <= 4


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (5.12341, 0.01234, "5.1234 ± 0.0123"),
        (12156.1834, 21123.567, "12,156 ± 21,124"),
        (3661.4738, 505.4285, "3,661 ± 505"),
        (9.5, 0.0, "9.500000 ± 0.000000"),
    ],
)
def test_a_measured_value_has_the_digits_that_its_error_leaves(
    value: float, error: float, expected: str
) -> None:
    assert measured_text(value, error) == expected


@given(st.integers(1, 2**50))
def test_an_exact_size_is_read_back(n: int) -> None:
    assert parse_size(exact_size_text(n)) == n


def test_rates() -> None:
    assert rate_text(12_582_912) == "12.0 MiB/s"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (4.21, "4.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (75, "1 min 15 s"),
        (3599.6, "1 h 00 min"),
        (7265, "2 h 01 min"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration_text(seconds) == expected


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("8G", 8 * GIB),
        ("512MiB", 512 * MIB),
        ("1024", 1024),
        (" 1.5 gb ", 3 * GIB // 2),
        ("2kib", 2048),
    ],
)
def test_sizes_are_parsed(text: str, n: int) -> None:
    assert parse_size(text) == n


@pytest.mark.parametrize(
    "text", ["", "G", "-1", "1e9", "8 X", "1.2.3", "8GG", "0x10", "9" * 400, "1." + "9" * 5000]
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="not a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "n"), [("4096", 4096), ("32k", 32_768), (" 256K ", 262_144), ("0", 0)]
)
def test_counts_are_parsed(text: str, n: int) -> None:
    assert parse_count(text) == n


@pytest.mark.parametrize("text", ["", "k", "-5", "1.5k", "4M", "32 kb", "9" * 5000])
def test_what_is_no_count(text: str) -> None:
    with pytest.raises(UsageError, match="not a number of tokens"):
        parse_count(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("90s", 90.0), ("10m", 600.0), (" 1.5 h ", 5400.0), ("2M", 120.0), ("0", 0.0),
     ("1h30m", 5400.0), ("1h30", 3630.0), ("250ms", 0.25), ("-1", -1.0), ("-1h30m", -5400.0),
     ("+.5s", 0.5), ("3us", 3e-6), ("9" * 30 + "h", LONGEST_S)],
)  # fmt: skip
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "-", "s", ".", "1-2", "10 minutes", "1d", "1e3", "1.2.3s", "9" * 400]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)
