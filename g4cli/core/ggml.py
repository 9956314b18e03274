"""The ggml tensor types: id, name, weights per block, bytes per block.

Source: ggml/src/ggml.c `type_traits` and ggml/src/ggml-common.h, ggml-org/llama.cpp@0c1e57098 (the
copy inside llama-cpp-python 0.3.36). `tests/unit/core/test_ggml.py` pins the table to the library
and to gguf-py.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Final

from g4cli.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class GGMLType:
    """A tensor type: `block_bytes` bytes hold `block_size` consecutive weights of one row."""

    id: int
    name: str
    block_size: int
    block_bytes: int

    @property
    def bits_per_weight(self) -> float:
        """Return the storage cost in bits, scales included."""
        return 8 * self.block_bytes / self.block_size

    @property
    def is_quantized(self) -> bool:
        """Return whether weights share a scale (anything but plain numbers)."""
        return self.block_size > 1

    def row_bytes(self, n: int) -> int:
        """Return the bytes of a row of `n` weights. Raises ValueError if a block would be cut."""
        if n % self.block_size:
            raise ValueError(f"{n} is not a multiple of {self.name}'s block of {self.block_size}")
        return n // self.block_size * self.block_bytes

    def tensor_bytes(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a tensor; `shape[0]` is the row length (ggml's ne[0])."""
        return self.row_bytes(shape[0]) * prod(shape[1:])


TYPES: Final = (
    GGMLType(0, "F32", 1, 4),
    GGMLType(1, "F16", 1, 2),
    GGMLType(2, "Q4_0", 32, 2 + 16),
    GGMLType(3, "Q4_1", 32, 2 + 2 + 16),
    GGMLType(6, "Q5_0", 32, 2 + 4 + 16),
    GGMLType(7, "Q5_1", 32, 2 + 2 + 4 + 16),
    GGMLType(8, "Q8_0", 32, 2 + 32),
    GGMLType(9, "Q8_1", 32, 2 + 2 + 32),
    GGMLType(10, "Q2_K", 256, 2 + 2 + 16 + 64),
    GGMLType(11, "Q3_K", 256, 2 + 64 + 32 + 12),
    GGMLType(12, "Q4_K", 256, 2 + 2 + 128 + 12),
    GGMLType(13, "Q5_K", 256, 2 + 2 + 128 + 32 + 12),
    GGMLType(14, "Q6_K", 256, 2 + 128 + 64 + 16),
    GGMLType(15, "Q8_K", 256, 4 + 256 + 32),
    GGMLType(16, "IQ2_XXS", 256, 2 + 64),
    GGMLType(17, "IQ2_XS", 256, 2 + 64 + 8),
    GGMLType(18, "IQ3_XXS", 256, 2 + 64 + 32),
    GGMLType(19, "IQ1_S", 256, 2 + 32 + 16),
    GGMLType(20, "IQ4_NL", 32, 2 + 16),
    GGMLType(21, "IQ3_S", 256, 2 + 64 + 8 + 32 + 4),
    GGMLType(22, "IQ2_S", 256, 2 + 64 + 16),
    GGMLType(23, "IQ4_XS", 256, 2 + 2 + 4 + 128),
    GGMLType(24, "I8", 1, 1),
    GGMLType(25, "I16", 1, 2),
    GGMLType(26, "I32", 1, 4),
    GGMLType(27, "I64", 1, 8),
    GGMLType(28, "F64", 1, 8),
    GGMLType(29, "IQ1_M", 256, 32 + 16 + 8),
    GGMLType(30, "BF16", 1, 2),
    GGMLType(34, "TQ1_0", 256, 2 + 48 + 4),
    GGMLType(35, "TQ2_0", 256, 2 + 64),
    GGMLType(39, "MXFP4", 32, 1 + 16),
    GGMLType(40, "NVFP4", 64, 4 + 32),
    GGMLType(41, "Q1_0", 128, 2 + 16),
    GGMLType(42, "Q2_0", 64, 2 + 16),
)

BY_ID: Final = {t.id: t for t in TYPES}
BY_NAME: Final = {t.name: t for t in TYPES}

F32: Final = BY_NAME["F32"]
F16: Final = BY_NAME["F16"]
BF16: Final = BY_NAME["BF16"]
Q4_0: Final = BY_NAME["Q4_0"]
Q8_0: Final = BY_NAME["Q8_0"]
Q6_K: Final = BY_NAME["Q6_K"]
I8: Final = BY_NAME["I8"]


@dataclass(frozen=True, slots=True)
class PlainType:
    """A type of plain floating-point numbers, read as integer words of the numpy dtype `word`.

    `magnitude_mask` removes the sign bit. What remains orders as the magnitudes do (IEEE 754), so
    the largest word is the largest number; `infinity` is followed by the words of NaN.
    """

    word: str
    magnitude_mask: int
    infinity: int


PLAIN_TYPES: Final = {
    "F32": PlainType("<u4", 0x7FFF_FFFF, 0x7F80_0000),
    "F16": PlainType("<u2", 0x7FFF, 0x7C00),
    "BF16": PlainType("<u2", 0x7FFF, 0x7F80),
}

QUANTIZATION_VERSION: Final = 2
"""The value of general.quantization_version: GGML_QNT_VERSION, ggml/include/ggml.h, ibid."""

# general.file_type -> the name that llama.cpp prints: enum llama_ftype, include/llama.h, ibid.
FILE_TYPE_NAMES: Final = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}


def round_up(n: int, step: int) -> int:
    """Return the least multiple of `step` that is not below `n` (GGML_PAD, ggml/include/ggml.h)."""
    return -(-n // step) * step


def ggml_type(name: str) -> GGMLType:
    """Return the type called `name`, in any case. Raises UsageError naming those that exist."""
    kind = BY_NAME.get(name.upper())
    if kind is None:
        known = " ".join(t.name.lower() for t in TYPES)
        raise UsageError(f"unknown tensor type {name!r}", hint=f"one of: {known}")
    return kind
