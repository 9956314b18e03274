"""SFP8 against the published table, a brute-force nearest search and gemma.cpp's own rounding."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from g4cli.core.errors import BadFile
from g4cli.core.sfp8 import RESERVED
from g4cli.quant import sfp8
from tests.support.paths import GOLDEN

# All 256 codes: code, bfloat16 word, value; made with google/gemma.cpp@3ed403e.
ROWS = [
    line.split()
    for line in (GOLDEN / "sfp8_table.txt").read_text().splitlines()
    if "reserved" not in line
]
WORDS = {int(code, 16): int(word, 16) for code, word, _ in ROWS}
VALUES = {int(code, 16): float(value) for code, _, value in ROWS}
POSITIVE = np.array([VALUES[code] for code in range(128)])


def widened(words: NDArray[np.uint16]) -> NDArray[np.float32]:
    return (words.astype(np.uint32) << 16).view(np.float32)


def nearest(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The nearest code by search over the table; ties to the even code; the corner at zero as
    specified.
    """
    magnitude = np.minimum(np.abs(values.astype(np.float64)), 1.875)
    above = np.clip(np.searchsorted(POSITIVE, magnitude), 1, 127)
    middle = (POSITIVE[above - 1] + POSITIVE[above]) / 2
    even = np.where(above % 2 == 0, above, above - 1)
    code = np.where(magnitude < middle, above - 1, np.where(magnitude > middle, above, even))
    # 2^-23 does not exist: what rounds to it becomes code 1, and all that is smaller zero.
    code = np.where(
        magnitude < 1.875 * 2.0**-24, 0, np.where(magnitude < 1.125 * 2.0**-23, 1, code)
    )
    return np.where((values < 0) & (code > 0), code | 0x80, code).astype(np.uint8)


def test_the_table_has_255_values() -> None:
    assert len(WORDS) == 255
    assert RESERVED not in WORDS


def test_decode_equals_the_table() -> None:
    codes = np.array(sorted(WORDS), np.uint8)
    words = sfp8.decode_bf16(codes)
    assert words.tolist() == [WORDS[int(code)] for code in codes]
    assert widened(words).tolist() == [VALUES[int(code)] for code in codes]


def test_every_value_encodes_to_its_code() -> None:
    codes = np.array(sorted(WORDS), np.uint8)
    values = np.array([VALUES[int(code)] for code in codes], np.float32)
    for gemma_cpp in (False, True):
        assert sfp8.encode_sfp8(values, gemma_cpp=gemma_cpp).codes.tolist() == codes.tolist()
        assert (
            sfp8.encode_sfp8(sfp8.decode_bf16(codes), gemma_cpp=gemma_cpp).codes.tolist()
            == codes.tolist()
        )


def test_encode_is_the_nearest_code() -> None:
    rng = np.random.default_rng(8)
    ties = ((POSITIVE[1:] + POSITIVE[:-1]) / 2).astype(np.float32)
    around = np.concatenate(
        [ties, np.nextafter(ties, np.float32(9)), np.nextafter(ties, np.float32(0))]
    )
    spread = np.exp(rng.uniform(-18, 0.63, 200_000)).astype(np.float32)
    values = np.concatenate(
        [around, -around, spread, -spread, rng.normal(0, 0.02, 100_000)]
    ).astype(np.float32)
    assert np.array_equal(sfp8.encode_sfp8(values).codes, nearest(values))


def test_bfloat16_input_gives_the_codes_of_its_values() -> None:
    words = np.arange(65536, dtype=np.uint16)
    words = words[(words & 0x7F80) != 0x7F80]
    for exponent in (0, 3, -5):
        for gemma_cpp in (False, True):
            ours = sfp8.encode_sfp8(words, exponent, gemma_cpp=gemma_cpp)
            with np.errstate(over="ignore"):
                scaled = np.ldexp(widened(words), -exponent).astype(np.float32)
            theirs = sfp8.encode_sfp8(scaled, gemma_cpp=gemma_cpp)
            assert np.array_equal(ours.codes, theirs.codes)
            assert ours.n_clamped == theirs.n_clamped


def test_gemma_cpp_rounding_differs_where_it_was_seen_to() -> None:
    """126 of the 32,738 in-range bfloat16 words (by gemma.cpp's own code), one of them 1.3203125 ->
    1.25.
    """
    words = np.arange(65536, dtype=np.uint16)
    words = words[(words & 0x7FFF) <= 0x3FF0]
    assert len(words) == 32_738
    exact, theirs = sfp8.encode_sfp8(words).codes, sfp8.encode_sfp8(words, gemma_cpp=True).codes
    assert int(np.count_nonzero(exact != theirs)) == 126
    value = np.array([1.3203125], np.float32)
    assert VALUES[int(sfp8.encode_sfp8(value).codes[0])] == 1.375
    assert VALUES[int(sfp8.encode_sfp8(value, gemma_cpp=True).codes[0])] == 1.25


def test_gemma_cpp_rounding_cuts_before_it_rounds() -> None:
    rng = np.random.default_rng(9)
    values = rng.normal(0, 0.05, 50_000).astype(np.float32)
    cut = (values.view(np.uint32) & np.uint32(0xFFFE0000)).view(
        np.float32
    )  # sign, exponent, 6 bits
    assert np.array_equal(sfp8.encode_sfp8(values, gemma_cpp=True).codes, nearest(cut))


def test_clamped_and_lost_weights_are_counted() -> None:
    values = np.array([0.0, -0.0, 1e-9, -1e-9, 1.875, 1.9, -3.0, 0.5], np.float32)
    coded = sfp8.encode_sfp8(values)
    assert (coded.n_clamped, coded.n_underflow) == (2, 2)
    assert coded.codes.tolist() == [0, 0, 0, 0, 0x7F, 0x7F, 0xFF, 0x70]


@pytest.mark.parametrize(
    ("largest", "k"),
    [(1.875, 0), (1.8750001, 1), (3.75, 1), (0.9375, -1), (0.94, 0), (0.06, -4), (0.0, 0)],
)
def test_scale_is_the_least_power_of_two_that_fits(largest: float, k: int) -> None:
    assert sfp8.scale_exponent(largest) == k
    assert sfp8.scale_exponent(largest, only_down=True) == max(0, k)


def test_scaled_values_stay_exact_in_bfloat16() -> None:
    codes = np.array(sorted(WORDS), np.uint8)
    for exponent in (-20, -1, 4):
        values = widened(sfp8.decode_bf16(codes, exponent)).astype(np.float64)
        assert values.tolist() == [VALUES[int(c)] * 2.0**exponent for c in codes]


def test_a_scale_lifts_small_weights_into_the_finer_half() -> None:
    """25.5 dB without, 31.5 dB with a power-of-two scale: two against three mantissa bits."""
    values = np.random.default_rng(4).normal(0, 0.001, 200_000).astype(np.float32)

    def snr(exponent: int) -> float:
        back = widened(sfp8.decode_bf16(sfp8.encode_sfp8(values, exponent).codes, exponent)).astype(
            np.float64
        )
        return float(
            10 * np.log10((values.astype(np.float64) ** 2).sum() / ((back - values) ** 2).sum())
        )

    assert snr(0) == pytest.approx(25.5, abs=0.2)
    assert snr(sfp8.scale_exponent(float(np.abs(values).max()))) == pytest.approx(31.5, abs=0.2)


def test_the_reserved_code_is_refused() -> None:
    with pytest.raises(BadFile, match="weight 2"):
        sfp8.decode_bf16(np.array([0, 1, 0x80], np.uint8))
