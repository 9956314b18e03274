"""Positions of the scales in the blocks of each quantized type, and which can be negative.

Source: ggml/src/ggml-common.h and the encoders in ggml-quants.c, ggml-org/llama.cpp@0c1e57098. An
encoder that divides by the largest magnitude writes a scale >= 0; one that keeps the sign of the
largest weight (Q4_0, Q3_K, Q6_K, IQ4_NL) may write a negative one. `levels` is the largest
factor that a scale is multiplied with: the largest level, in types with scales of parts of a block
times the largest of those (Q4_K: 15 * 63, Q6_K: 32 * 128).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """F16 scales at byte `offsets` of a block; `levels` is the largest |weight / scale|."""

    offsets: tuple[int, ...]
    signed: bool
    levels: int


LAYOUTS: Final = {
    # type: offsets of scales, may be negative, largest factor
    "Q4_0": BlockLayout((0,), True, 8),
    "Q4_1": BlockLayout((0,), False, 15),
    "Q5_0": BlockLayout((0,), True, 16),
    "Q5_1": BlockLayout((0,), False, 31),
    "Q8_0": BlockLayout((0,), False, 127),
    "Q2_K": BlockLayout((80, 82), False, 45),
    "Q3_K": BlockLayout((108,), True, 128),
    "Q4_K": BlockLayout((0, 2), False, 945),
    "Q5_K": BlockLayout((0, 2), False, 1953),
    "Q6_K": BlockLayout((208,), True, 4096),
    "IQ2_XXS": BlockLayout((0,), True, 1376),
    "IQ2_XS": BlockLayout((0,), True, 1376),
    "IQ2_S": BlockLayout((0,), True, 1376),
    "IQ3_XXS": BlockLayout((0,), True, 1984),
    "IQ3_S": BlockLayout((0,), True, 1984),
    "IQ1_S": BlockLayout((0,), True, 16),
    "IQ4_NL": BlockLayout((0,), True, 127),
    "IQ4_XS": BlockLayout((0,), True, 4064),
    "TQ1_0": BlockLayout((52,), True, 1),
    "TQ2_0": BlockLayout((64,), True, 1),
}


def read_block_scales(
    data: NDArray[np.uint8], block_bytes: int, layout: BlockLayout
) -> NDArray[np.float32]:
    """Return the scales in whole blocks as float32, shape (scales per block, blocks)."""
    blocks = data[: data.size // block_bytes * block_bytes].reshape(-1, block_bytes)
    scales = [
        blocks[:, at : at + 2].copy().view("<f2")[:, 0].astype(np.float32) for at in layout.offsets
    ]
    return np.stack(scales)


@dataclass(frozen=True, slots=True)
class PlainType:
    """A type of plain numbers: its word, the mask of the magnitude, the first word not finite.

    Without the sign, IEEE numbers order as their words do: the largest word is the largest
    magnitude.
    """

    word: str
    magnitude: int
    first_non_finite: int


PLAIN: Final = {
    "F32": PlainType("<u4", 0x7FFF_FFFF, 0x7F80_0000),
    "F16": PlainType("<u2", 0x7FFF, 0x7C00),
    "BF16": PlainType("<u2", 0x7FFF, 0x7F80),
}


def to_float32(words: NDArray[Any], type_name: str) -> NDArray[np.float32]:
    """Return the numbers that words (uint16 or uint32) of type F32, F16 or BF16 stand for."""
    if type_name == "F32":
        return words.astype("<u4").view("<f4")
    if type_name == "F16":
        return words.astype("<u2").view("<f2").astype(np.float32)
    return (words.astype(np.uint32) << 16).view(np.float32)
