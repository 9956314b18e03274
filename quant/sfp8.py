"""SFP8, Google's switching floating point: one byte per weight, exact in BF16.

    S 1 EEE MMM   value = (1 + M/8) * 2^(E - 7),  |x| from 2^-7 to 1.875
    S 0 EEEE MM   value = (1 + M/4) * 2^(E - 23), |x| from 1.25 * 2^-23 to 1.75 * 2^-8
    code 0x00 is zero (so 2^-23 itself does not exist); 0x80 is reserved

Codes grow with the magnitude, so encoding is rounding the bits of a float, half to even: to 2 mantissa bits
below 2^-7, to 3 above; both roundings meet in code 64. Source: compression/types.h `SfpStream` and
compression/sfp-inl.h, google/gemma.cpp@3ed403e.

There is one scale per tensor. g4's is a power of two, so that value = grid * scale stays exact in BF16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import BadFile

MAX: Final = 1.875
RESERVED: Final = 0x80
ZERO_CODE: Final = 0

# Exponent fields of bfloat16 and float32 start at bit 7 and 23; the format's ones at 2 and 3 mantissa bits.
_SMALL_BASE: Final = 104 << 2  # 2^-23, the code 0 that is not there
_LARGE_BASE: Final = (120 << 3) - 64  # 2^-7 is code 64


@dataclass(frozen=True, slots=True)
class Coded:
    """Codes, and how many weights were clamped to 1.875 or became zero although they were not."""

    codes: NDArray[np.uint8]
    n_clamped: int
    n_underflow: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the fields of a float lie: the unsigned integer type and the number of mantissa bits."""

    word: type[np.unsignedinteger[Any]]
    signed: type[np.signedinteger[Any]]
    mantissa: int


_BF16: Final = _Layout(np.uint16, np.int16, 7)
_F32: Final = _Layout(np.uint32, np.int32, 23)


def scale_exponent(largest: float, *, only_down: bool = False) -> int:
    """Return k for the tensor scale 2^k: the least with `largest` / 2^k <= 1.875; 0 for an all-zero tensor.

    A scale below 1 lifts small weights out of the range with two mantissa bits (25.5 dB become 31.5).
    `only_down`: never below 1, as gemma.cpp's `ScaleWeights`.
    """
    if largest <= 0 or not np.isfinite(largest):
        return 0
    fraction, exponent = np.frexp(largest)  # largest = fraction * 2^exponent, 0.5 <= fraction < 1
    k = int(exponent) - 1 + (2 * float(fraction) > MAX)
    # Beyond these the scaled value or its BF16 form would leave the normal range.
    return max(-60, min(60, max(0, k) if only_down else k))


def encode(values: NDArray[Any], exponent: int = 0, *, gemma_cpp: bool = False, count: bool = True) -> Coded:
    """Return the codes of `values` / 2^`exponent`: float32, or uint16 holding bfloat16. Same shape, uint8.

    `gemma_cpp` rounds as gemma.cpp does: it cuts to 6 mantissa bits first, so values up to 1/64 above a tie
    go down half of the time. Weights beyond 1.875 are clamped. NaN and infinities must be ruled out before.
    """
    layout = _BF16 if values.dtype == np.uint16 else _F32
    if layout is _F32:
        values = np.ascontiguousarray(values, np.float32)
    bits = values.view(layout.word)
    one = layout.word(1)
    shift = layout.mantissa
    magnitude = bits & layout.word((1 << (8 + shift)) - 1)
    nonzero = int(np.count_nonzero(magnitude)) if count else 0
    limit = layout.word((127 + exponent << shift) + (7 << (shift - 3)))  # 1.875 * 2^exponent
    n_clamped = int(np.count_nonzero(magnitude > limit)) if count else 0
    np.minimum(magnitude, limit, out=magnitude)
    if exponent:
        # Steps of the exponent field; what falls below the normal range is far below code 1 anyway.
        moved = magnitude.view(layout.signed) - layout.signed(exponent << shift)
        magnitude = np.maximum(moved, 0).view(layout.word)
    if gemma_cpp:
        magnitude &= layout.word(~((1 << (shift - 6)) - 1) & ((1 << (9 + shift)) - 1))
    small, large = layout.word(shift - 2), layout.word(shift - 3)
    q2 = _rounded(magnitude, small, one, layout)
    np.maximum(q2, layout.word(_SMALL_BASE - 1), out=q2)
    q2 -= layout.word(_SMALL_BASE - 1)  # 0: underflow, 1: the missing 2^-23, 2: code 1
    q2 -= q2 > one
    q3 = _rounded(magnitude, large, one, layout)
    q3 -= layout.word(_LARGE_BASE)
    codes = np.where(magnitude < layout.word(120 << shift), q2, q3).astype(np.uint8)
    sign = (bits >> layout.word(shift + 1)).astype(np.uint8) & np.uint8(0x80)
    sign *= codes != 0
    codes |= sign
    n_underflow = nonzero - int(np.count_nonzero(codes)) if count else 0
    return Coded(codes, n_clamped, n_underflow)


def _rounded(magnitude: NDArray[Any], shift: Any, one: Any, layout: _Layout) -> NDArray[Any]:
    """Return `magnitude` without its last `shift` bits, rounded half to even."""
    result: NDArray[Any] = magnitude >> shift
    result &= one
    result += magnitude
    result += layout.word((1 << (int(shift) - 1)) - 1)
    result >>= shift
    return result


def decode_bf16(codes: NDArray[np.uint8], exponent: int = 0) -> NDArray[np.uint16]:
    """Return the bfloat16 words of `codes` times 2^`exponent`. Raises BadFile on the reserved code."""
    if np.any(codes == RESERVED):
        where = int(np.argmax(codes.reshape(-1) == RESERVED))
        raise BadFile(f"SFP8 code 0x80 at weight {where} is reserved: the data is damaged")
    magnitude = (codes & np.uint8(0x7F)).astype(np.uint16)
    words: NDArray[np.uint16] = magnitude << np.uint16(4)
    small = magnitude < 64
    words += words * small  # one more bit of shift below code 64
    words += np.where(small, np.uint16(0x3400), np.uint16(0x3800))
    words += np.uint16((exponent << 7) & 0xFFFF)
    words *= magnitude != 0
    words |= (codes & np.uint8(0x80)).astype(np.uint16) << np.uint16(8)
    return words


def table() -> NDArray[np.uint16]:
    """Return the bfloat16 word of each of the 256 codes; the reserved one is NaN (0x7fc0)."""
    codes = np.arange(256, dtype=np.uint8)
    codes[RESERVED] = 0
    words = decode_bf16(codes)
    words[RESERVED] = 0x7FC0
    return words
