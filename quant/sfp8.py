"""SFP8, Google's switching floating point: one byte per weight, exact in BF16.

    S 1 EEE MMM   value = (1 + M/8) * 2^(E - 7),  |x| from 2^-7 to 1.875
    S 0 EEEE MM   value = (1 + M/4) * 2^(E - 23), |x| from 1.25 * 2^-23 to 1.75 * 2^-8
    code 0x00 is zero (so 2^-23 itself does not exist); 0x80 is reserved

Codes grow with the magnitude, so encoding is rounding the bits of a float, half to even: to 2
mantissa bits below 2^-7, to 3 above; both roundings meet in code 64. Source: compression/types.h
`SfpStream` and compression/sfp-inl.h, google/gemma.cpp@3ed403e.

There is one scale per tensor. g4's is a power of two, so that value = grid * scale stays exact in
BF16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import BadFile
from g4cli.core.sfp8 import MAX_EXPONENT, RESERVED

MAX: Final = 1.875

# As bfloat16 words without their sign (8 bits of exponent, which counts from -127, then 7 bits of
# mantissa): 2^-7, where three mantissa bits begin, and 1.875.
_LARGE: Final = 120 << 7
_LIMIT: Final = (127 << 7) + (7 << 4)
# Steps of 32 words from 0 to 2^-23, the value that code 0 would have (127 - 23 = 104).
_BASE: Final = 104 << 2


@dataclass(frozen=True, slots=True)
class Coded:
    """Codes, and how many weights were clamped to 1.875 or rounded to zero."""

    codes: NDArray[np.uint8]
    n_clamped: int
    n_underflow: int


def scale_exponent(largest: float, *, only_down: bool = False) -> int:
    """Return k of the tensor scale 2^k: the least with `largest` / 2^k <= 1.875.

    For an all-zero tensor it is 0. A scale below 1 moves small weights into the range with three
    mantissa bits (31.5 dB instead of 25.5). `only_down` keeps the scale at 1 or above, as
    gemma.cpp's `ScaleWeights` does.
    """
    if largest <= 0 or not np.isfinite(largest):
        return 0
    fraction, exponent = np.frexp(largest)  # largest = fraction * 2^exponent, 0.5 <= fraction < 1
    k = int(exponent) - 1 + (2 * float(fraction) > MAX)
    return max(-MAX_EXPONENT, min(MAX_EXPONENT, max(0, k) if only_down else k))


def encode_sfp8(values: NDArray[Any], exponent: int = 0, *, gemma_cpp: bool = False) -> Coded:
    """Return the codes of `values` / 2^`exponent`: same shape, uint8.

    `values` are finite float32, or uint16 holding bfloat16. `gemma_cpp` rounds as gemma.cpp does:
    it truncates to 6 mantissa bits first, so values up to 1/64 above a tie are rounded down half of
    the time. Scaled weights beyond 1.875 are clamped.
    """
    words = values if values.dtype == np.uint16 else _truncate_to_bf16(values)
    magnitude = words & np.uint16(0x7FFE if gemma_cpp else 0x7FFF)
    largest = int(magnitude.max(initial=0))
    # A bfloat16 word has the exponent from bit 7 on: adding k << 7 multiplies by 2^k.
    limit = _LIMIT + (exponent << 7)
    n_clamped = 0
    if largest >= limit:  # with gemma.cpp's rounding a word above the limit may have been truncated
        n_clamped = int(np.count_nonzero((words & np.uint16(0x7FFF)) > limit))
    if largest > limit:
        np.minimum(magnitude, np.uint16(limit), out=magnitude)
    n_nonzero = np.count_nonzero(magnitude)
    if exponent > 0:
        # Subtract from the exponent field; what leaves the normal range is far below code 1.
        np.maximum(magnitude, np.uint16(exponent << 7), out=magnitude)
        magnitude -= np.uint16(exponent << 7)
    codes = _round_to_codes(magnitude + np.uint16(-exponent << 7) if exponent < 0 else magnitude)
    n_underflow = int(n_nonzero - np.count_nonzero(codes))
    codes |= (words >> np.uint16(8)).astype(np.uint8) & np.uint8(0x80)
    codes *= (codes != RESERVED).view(np.uint8)  # there is no -0
    return Coded(codes, n_clamped, n_underflow)


def _truncate_to_bf16(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Return float32 `values` as bfloat16 words whose last bit is set if nonzero bits were dropped.

    This is enough for `_round_to_codes`, which needs at most 5 of the 7 mantissa bits and whether
    the remainder is zero.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    words: NDArray[np.uint16] = (bits >> np.uint32(16)).astype(np.uint16)
    words |= (bits & np.uint32(0xFFFF)) != 0
    return words


def _round_to_codes(magnitude: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Return the codes of bfloat16 words without sign, at most 1.875.

    Codes are 32 words apart below 2^-7 and 16 above. Doubling the distance above 2^-7 makes it 32
    everywhere and keeps even codes even, so one rounding, half to even, serves both ranges.
    """
    steps = np.maximum(magnitude, np.uint16(_LARGE))
    steps += magnitude
    steps -= np.uint16(_LARGE)
    rounded = steps >> np.uint16(5)
    rounded &= np.uint16(1)
    rounded += steps
    rounded += np.uint16(15)
    rounded >>= np.uint16(5)
    np.maximum(rounded, np.uint16(_BASE - 1), out=rounded)
    rounded -= np.uint16(_BASE - 1)  # 0: zero, 1: the missing 2^-23, 2: code 1
    codes: NDArray[np.uint8] = rounded.astype(np.uint8)
    codes -= (codes > 1).view(np.uint8)
    return codes


def decode_bf16(codes: NDArray[np.uint8], exponent: int = 0) -> NDArray[np.uint16]:
    """Return the bfloat16 words of `codes` times 2^`exponent`.

    Raises BadFile on the reserved code.
    """
    if np.any(codes == RESERVED):
        where = int(np.argmax(codes.reshape(-1) == RESERVED))
        raise BadFile(f"SFP8 code 0x80 at weight {where} is reserved: the data is damaged")
    magnitude = (codes & np.uint8(0x7F)).astype(np.uint16)
    words: NDArray[np.uint16] = magnitude << np.uint16(4)
    small = magnitude < 64
    words += words * small  # one more bit of shift below code 64
    # The exponents of codes 0 and 64: 0x3400 = 104 << 7 is 2^-23. Code 64 has a bit at the place
    # of 8 << 7, which 0x3800 = 112 << 7 completes to 120 << 7, 2^-7.
    words += np.where(small, np.uint16(0x3400), np.uint16(0x3800))
    words += np.uint16((exponent << 7) & 0xFFFF)
    words *= magnitude != 0
    words |= (codes & np.uint8(0x80)).astype(np.uint16) << np.uint16(8)
    return words
