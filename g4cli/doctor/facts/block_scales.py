"""Positions of the F16 scales in the blocks of quantized types, and which can be negative.

Source: ggml/src/ggml-common.h and the encoders in ggml-quants.c, ggml-org/llama.cpp@0c1e57098. An
encoder that divides by the largest magnitude writes a scale >= 0; one that keeps the sign of the
largest weight (Q4_0, Q3_K, Q6_K, IQ4_NL) may write a negative one. Of the IQ and TQ types any sign
is let pass.

A weight is the scale times a stored level, in types whose blocks have parts times the scale of its
part too. `max_factor` is the largest product of these: an upper bound, which is enough, since only
the order of magnitude of weights is judged. The levels of the IQ types stand in grids, with 43
(IQ2) and 62 (IQ3) as the largest numbers; 32 is above the scale of any part. The minimum that Q4_1
and Q5_1 add to each weight is not looked at, nor are types without an F16 scale (IQ1_M, MXFP4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """Where a block has F16 scales: at the bytes `offsets`; `max_factor`: |weight / scale| at most.

    `signed`: encoders write negative scales, or may.
    """

    offsets: tuple[int, ...]
    signed: bool
    max_factor: int


LAYOUTS: Final = {
    # type: offsets, signed, max_factor
    "Q4_0": BlockLayout((0,), True, 8),
    "Q4_1": BlockLayout((0,), False, 15),
    "Q5_0": BlockLayout((0,), True, 16),
    "Q5_1": BlockLayout((0,), False, 31),
    "Q8_0": BlockLayout((0,), False, 127),
    "Q2_K": BlockLayout((80, 82), False, 3 * 15),
    "Q3_K": BlockLayout((108,), True, 4 * 32),
    "Q4_K": BlockLayout((0, 2), False, 15 * 63),
    "Q5_K": BlockLayout((0, 2), False, 31 * 63),
    "Q6_K": BlockLayout((208,), True, 32 * 128),
    "IQ2_XXS": BlockLayout((0,), True, 43 * 32),
    "IQ2_XS": BlockLayout((0,), True, 43 * 32),
    "IQ2_S": BlockLayout((0,), True, 43 * 32),
    "IQ3_XXS": BlockLayout((0,), True, 62 * 32),
    "IQ3_S": BlockLayout((0,), True, 62 * 32),
    "IQ1_S": BlockLayout((0,), True, 15 * 2),  # levels of up to 1 1/8
    "IQ4_NL": BlockLayout((0,), True, 127),
    "IQ4_XS": BlockLayout((0,), True, 127 * 32),
    "TQ1_0": BlockLayout((52,), True, 1),
    "TQ2_0": BlockLayout((64,), True, 1),
}


def read_block_scales(
    data: NDArray[np.uint8], block_bytes: int, layout: BlockLayout
) -> NDArray[np.float32]:
    """Return the scales in the whole blocks of `data` as float32, shape (scales per block, blocks).

    `data` are bytes of a tensor from the beginning of a block on; an incomplete block at their end
    is left out.
    """
    blocks = data[: data.size // block_bytes * block_bytes].reshape(-1, block_bytes)
    scales = [
        blocks[:, offset : offset + 2].copy().view("<f2")[:, 0].astype(np.float32)
        for offset in layout.offsets
    ]
    return np.stack(scales)


def to_float32(words: NDArray[Any], type_name: str) -> NDArray[np.float32]:
    """Return the numbers that words (uint16 or uint32) of type F32, F16 or BF16 stand for."""
    if type_name == "F32":
        return words.astype("<u4").view("<f4")
    if type_name == "F16":
        return words.astype("<u2").view("<f2").astype(np.float32)
    return (words.astype(np.uint32) << 16).view(np.float32)
