"""Count the numbers in a tensor labeled SFP8 that no SFP8 code stands for.

SFP8 has one scale 2^k per tensor. Magnitudes are grid * 2^k, where the grid has three mantissa bits
from 2^-7 to 1.875 and two mantissa bits below, down to 1.25 * 2^-23 (reference: quant/sfp8.py). An
encoder takes the least k that keeps the largest magnitude within 1.875, so k follows from the
values themselves, but only once all of them were seen. Until then three magnitudes are enough to
decide: the largest, the smallest, and the smallest one that uses the third mantissa bit (a *fine*
one), which must lie in the upper part of the grid.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.sfp8 import RESERVED

# The magnitudes are compared as bfloat16 words without their sign, which order as the numbers do.
_BELOW_THIRD_BIT: Final = 0x000F  # mantissa bits that no SFP8 value has
_THIRD_BIT: Final = 0x0010
_EXPONENT_SHIFT: Final = 7
_LARGEST: Final = 0x3FF0  # 1.875
# Exponents are stored with 127 added: 120 is -7, and 104 is -23.
_SMALLEST_WITH_THIRD_BIT: Final = 120 << _EXPONENT_SHIFT  # 2^-7
_SMALLEST: Final = (104 << _EXPONENT_SHIFT) + (1 << 5)  # 1.25 * 2^-23


class Sfp8ValueCounter:
    """Counts the numbers that are not SFP8 values in a tensor that is read in pieces."""

    def __init__(self, type_name: str, *, only_scaled_down: bool) -> None:
        """Count in a tensor of type I8 (SFP8 codes), BF16 or F32.

        `only_scaled_down`: the encoder never uses k < 0 (gemma.cpp's does not).
        """
        self._type, self._only_scaled_down = type_name, only_scaled_down
        self._not_sfp8 = 0
        # Of the magnitudes so far, as words; the smallest begin above every word.
        self._largest, self._smallest_fine, self._smallest = 0, 0xFFFF, 0xFFFF

    def add_piece(self, data: NDArray[np.uint8]) -> None:
        """Add a piece that holds whole numbers; the order of the pieces does not matter."""
        if self._type == "I8":
            self._not_sfp8 += int(np.count_nonzero(data == RESERVED))
            return
        words = data[: data.size // 2 * 2].view("<u2")
        if self._type == "F32":
            # Its upper half is a bfloat16; SFP8 values have zeros in the lower one.
            words = data[: data.size // 4 * 4].view("<u2")
            self._not_sfp8 += int(np.count_nonzero(words[0::2]))
            words = words[1::2]
        magnitudes = words & np.uint16(0x7FFF)
        self._not_sfp8 += int(np.count_nonzero(magnitudes & np.uint16(_BELOW_THIRD_BIT)))
        nonzero = magnitudes[magnitudes != 0]
        if not nonzero.size:
            return
        self._largest = max(self._largest, int(nonzero.max()))
        self._smallest = min(self._smallest, int(nonzero.min()))
        fine = nonzero[(nonzero & np.uint16(_THIRD_BIT)) != 0]
        if fine.size:
            self._smallest_fine = min(self._smallest_fine, int(fine.min()))

    def count_invalid(self) -> int:
        """Return how many numbers are not SFP8 values; at least 1 if the range proves some."""
        if self._not_sfp8 or not self._largest:
            return self._not_sfp8
        # The least k with largest <= 1.875 * 2^k, in steps of the exponent.
        k = -(-(self._largest - _LARGEST) // (1 << _EXPONENT_SHIFT))
        if self._only_scaled_down:
            k = max(0, k)
        scale = k << _EXPONENT_SHIFT
        return int(self._smallest_fine < _SMALLEST_WITH_THIRD_BIT + scale) + int(
            self._smallest < _SMALLEST + scale
        )
