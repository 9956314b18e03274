"""Where the scales lie in the blocks of each type, and which of them can never be negative.

Source: ggml/src/ggml-common.h and the encoders in ggml-quants.c, ggml-org/llama.cpp@0c1e57098. An encoder
that divides by the largest magnitude writes a scale >= 0; one that keeps the sign of the largest weight
(Q4_0, Q3_K, Q6_K, IQ4_NL) may write a negative one. `levels`: the largest factor that a scale meets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Layout:
    """Half-precision scales at `places` in the block; `levels` is |weight| / |scale| at most."""

    places: tuple[int, ...]
    signed: bool
    levels: int


LAYOUTS: Final = {
    # type: places of scales, may be negative, largest factor
    "Q4_0": Layout((0,), True, 8),
    "Q4_1": Layout((0,), False, 15),
    "Q5_0": Layout((0,), True, 16),
    "Q5_1": Layout((0,), False, 31),
    "Q8_0": Layout((0,), False, 127),
    "Q2_K": Layout((80, 82), False, 45),
    "Q3_K": Layout((108,), True, 128),
    "Q4_K": Layout((0, 2), False, 945),
    "Q5_K": Layout((0, 2), False, 1953),
    "Q6_K": Layout((208,), True, 4096),
    "IQ2_XXS": Layout((0,), True, 1376),
    "IQ2_XS": Layout((0,), True, 1376),
    "IQ2_S": Layout((0,), True, 1376),
    "IQ3_XXS": Layout((0,), True, 1984),
    "IQ3_S": Layout((0,), True, 1984),
    "IQ1_S": Layout((0,), True, 16),
    "IQ4_NL": Layout((0,), True, 127),
    "IQ4_XS": Layout((0,), True, 4064),
    "TQ1_0": Layout((52,), True, 1),
    "TQ2_0": Layout((64,), True, 1),
}


def block_scales(
    octets: NDArray[np.uint8], block_bytes: int, layout: Layout
) -> NDArray[np.float32]:
    """Return the scales in whole blocks, shape (places, blocks), as float32."""
    blocks = octets[: octets.size // block_bytes * block_bytes].reshape(-1, block_bytes)
    found = [
        blocks[:, at : at + 2].copy().view("<f2")[:, 0].astype(np.float32) for at in layout.places
    ]
    return np.stack(found)


@dataclass(frozen=True, slots=True)
class Plain:
    """A type of plain numbers: its word, the mask of the magnitude, and the least word that is no number.

    Without the sign, IEEE numbers order as their words do: the largest word is the largest magnitude.
    """

    word: str
    magnitude: int
    no_number: int


PLAIN: Final = {
    "F32": Plain("<u4", 0x7FFF_FFFF, 0x7F80_0000),
    "F16": Plain("<u2", 0x7FFF, 0x7C00),
    "BF16": Plain("<u2", 0x7FFF, 0x7F80),
}


def as_floats(words: NDArray[Any], type_name: str) -> NDArray[np.float32]:
    """Return words of a plain type as float32."""
    if type_name == "F32":
        return words.astype("<u4").view("<f4")
    if type_name == "F16":
        return words.astype("<u2").view("<f2").astype(np.float32)
    return (words.astype(np.uint32) << 16).view(np.float32)
