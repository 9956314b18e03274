"""Encoders in numpy for machines without ggml's library, equal to ggml bit by bit.

The types are F32, F16, BF16, Q8_0 and Q4_0. Source: ggml/src/ggml-quants.c `quantize_row_q8_0_ref`,
`quantize_row_q4_0_ref` and ggml/src/ggml-impl.h `ggml_compute_fp32_to_bf16`,
ggml-org/llama.cpp@0c1e57098.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.ggml import BF16, F32, GGMLType

_BLOCK_WEIGHTS: Final = 32  # weights that share a scale: QK8_0 and QK4_0 of ggml-common.h


def can_encode(kind: GGMLType) -> bool:
    """Return whether this module has an encoder for `kind`."""
    return kind.name in _ENCODERS


def encode_rows(kind: GGMLType, values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the bytes of `values` (rows, n) in `kind`, shape (rows, row bytes).

    Values must be finite.
    """
    rows, n = values.shape
    return _ENCODERS[kind.name](np.ascontiguousarray(values, np.float32)).reshape(
        rows, kind.row_bytes(n)
    )


def is_valid(kind: GGMLType, encoded: NDArray[np.uint8]) -> bool:
    """Return whether no value or scale in `encoded`, in `kind`, is infinite; F32 is not checked.

    A quantized block begins with its scale, a float16.
    """
    if kind is F32:
        return True
    first = encoded.reshape(-1, kind.block_bytes)[:, :2].copy().view("<u2") & np.uint16(0x7FFF)
    return int(first.max(initial=0)) < (0x7F80 if kind is BF16 else 0x7C00)  # infinity


def bf16_words(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return `values` rounded to bfloat16, half to even, as words of the same shape.

    NaN stays NaN. Source: ggml_compute_fp32_to_bf16, see above.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(64)  # bit 6 marks a NaN that raises no exception
    is_nan = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    words: NDArray[np.uint16] = np.where(is_nan, quiet, rounded).astype(np.uint16)
    return words


def bf16_values(words: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the float32 values of bfloat16 `words`, same shape."""
    bits: NDArray[np.uint32] = words.astype(np.uint32) << np.uint32(16)
    return bits.view(np.float32)


def _encode_f32(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return values.astype("<f4").view(np.uint8)


def _encode_f16(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    with np.errstate(over="ignore"):
        return values.astype("<f2").view(np.uint8)


def _encode_bf16(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return bf16_words(values).astype("<u2").view(np.uint8)


def _invert_scale(scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 1 / scale; 0 where the scale is 0 or its inverse overflows."""
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.float32(1) / scale
    finite: NDArray[np.float32] = np.where(np.isfinite(inverse), inverse, np.float32(0))
    return finite


def _encode_q8_0(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    blocks = values.reshape(-1, _BLOCK_WEIGHTS)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    # roundf rounds half away from zero; numpy's rint would round half to even.
    scaled = blocks * _invert_scale(scale)
    codes = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))
    return _join_blocks(scale, codes.astype(np.int8).view(np.uint8))


def _encode_q4_0(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    blocks = values.reshape(-1, _BLOCK_WEIGHTS)
    largest = np.abs(blocks).argmax(axis=1)[:, None]  # the first of equals, as in ggml
    # Adding zero turns -0 into 0: ggml's maximum starts at 0 and zeros do not replace it.
    scale = (np.take_along_axis(blocks, largest, axis=1) + np.float32(0)) / np.float32(-8)
    # A code c stands for scale * (c - 8), so the largest magnitude becomes code 0; 0.5 rounds.
    # ggml may fuse the product and the sum; in float64 they round once, as a fused operation does.
    exact = blocks.astype(np.float64) * _invert_scale(scale).astype(np.float64) + 8.5
    codes = np.minimum(np.trunc(exact.astype(np.float32)), 15).astype(np.uint8)
    return _join_blocks(scale, codes[:, :16] | (codes[:, 16:] << np.uint8(4)))


def _join_blocks(scale: NDArray[np.float32], codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with np.errstate(over="ignore"):
        head = scale.astype("<f2").view(np.uint8)
    return np.concatenate([head, codes], axis=1)


_ENCODERS: Final[Mapping[str, Callable[[Any], NDArray[np.uint8]]]] = MappingProxyType(
    {
        "F32": _encode_f32,
        "F16": _encode_f16,
        "BF16": _encode_bf16,
        "Q8_0": _encode_q8_0,
        "Q4_0": _encode_q4_0,
    }
)
