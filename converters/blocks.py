"""Tensors in row blocks: read, checked for NaN and Inf, and written plainly (F32, F16, BF16) by numpy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.checkpoint import floats
from converters.transforms import Value
from g4cli.core import ggml
from g4cli.core.gguf_write import TensorSpec

BLOCK_ELEMENTS: Final = 1 << 21  # 8 MiB as float32: large enough for threads, small beside any machine


def row_blocks(array: NDArray[Any], row: int, value: Value | None = None) -> Iterator[NDArray[Any]]:
    """Yield `array` in order as contiguous [n, row] blocks of its own dtype (uint16 = bits of BF16).

    With `value`, blocks are float32 after it. Only the block in hand is in memory; what lies in order in the
    file is not even copied.
    """
    if array.ndim == 1:
        array = array.reshape(1, -1) if array.size == row else array.reshape(-1, row)
    per_item = array.size // len(array)
    step = max(1, BLOCK_ELEMENTS // per_item)
    for start in range(0, len(array), step):
        block = np.ascontiguousarray(array[start : start + step])
        flat = block.reshape(-1)
        yield (flat if value is None else value(floats(flat))).reshape(-1, row)


def is_finite(block: NDArray[Any]) -> bool:
    """Return whether `block` (uint16 = bits of BF16, float16 or float32) has neither NaN nor Inf."""
    if block.dtype == np.uint16:
        # Without the sign, NaN and Inf are the largest numbers: one pass, no mask of booleans.
        return bool(np.bitwise_and(block, 0x7FFF).max() < 0x7F80)
    if block.dtype == np.float16:
        return bool(np.bitwise_and(block.view(np.uint16), 0x7FFF).max() < 0x7C00)
    return bool(np.isfinite(block).all())


def to_bf16(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of `x` as BF16, rounded to nearest, ties to even. `x` has no NaN."""
    bits = x.view(np.uint32)
    odd = np.right_shift(bits, 16) & 1
    return np.right_shift(bits + (odd + 0x7FFF), 16).astype(np.uint16)


def plain_encode(spec: TensorSpec, blocks: Iterable[NDArray[Any]]) -> Iterator[memoryview]:
    """Yield the bytes of `blocks` as F32, F16 or BF16. Raises ValueError for another type."""
    for block in blocks:
        out: NDArray[Any]
        if spec.type is ggml.BF16:
            out = block if block.dtype == np.uint16 else to_bf16(floats(block))
        elif spec.type is ggml.F16:
            with np.errstate(over="ignore"):  # a value beyond 65504 becomes Inf, and is reported
                out = block if block.dtype == np.float16 else floats(block).astype(np.float16)
        elif spec.type is ggml.F32:
            out = floats(block)
        else:
            raise ValueError(f"{spec.type.name} needs the encoder of quant")
        yield np.ascontiguousarray(out).reshape(-1).view(np.uint8).data
