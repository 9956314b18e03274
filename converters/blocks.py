"""Tensors as rows in blocks, read in worker threads, and the coder that writes F32, F16 and BF16.

A Coder chooses the types of tensors and encodes them. PlainCoder is the one in this package; the
one with the recipes of quant is g4cli.store.recode, because the converter does not import quant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from g4cli.converters.checkpoint import to_float32
from g4cli.converters.transforms import ValueTransform
from g4cli.core.errors import BadCheckpoint
from g4cli.core.ggml import BF16, F16, F32, GGMLType
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.gguf_values import Value
from g4cli.core.row_blocks import Block, Rows, count_threads, run_in_order

BLOCK_WEIGHTS: Final = 1 << 19  # 1 to 2 MiB: large enough to need few calls, small in memory


class Coder(Protocol):
    """Gives tensors their types and their bytes."""

    @property
    def block_weights(self) -> int:
        """Return how many weights a block of whole rows should have."""

    def plan_tensors(
        self, keys: Mapping[str, Value], specs: Sequence[TensorSpec]
    ) -> tuple[Mapping[str, Value], Sequence[TensorSpec]]:
        """Return the keys of the file to write, and its tensors in any order.

        `keys` and `specs` are those of the conversion without quantization.
        """

    def encode_tensors(self, tensors: Iterable[tuple[TensorSpec, Rows]]) -> Iterator[memoryview]:
        """Yield the bytes of `tensors`, in order; these are all that `plan_tensors` returned."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor to convert: a view of the file that is written as rows of `row_length` numbers.

    `origin` is the tensor's name in the checkpoint. If it holds NaN or Inf, the name becomes a key
    of `not_finite`, and zeros are read instead: the conversion continues, to report all such
    tensors at once. `value` transforms float32 blocks, None changes nothing. `infinite` allows Inf.
    """

    view: NDArray[Any]
    row_length: int
    origin: str
    not_finite: dict[str, None]
    value: ValueTransform | None = None
    infinite: bool = False

    def iter_blocks(self, weights: int = BLOCK_WEIGHTS) -> Iterator[Block]:
        """Yield the tensor in blocks of whole rows, of about `weights` numbers each."""
        table, row = self.view, self.row_length
        if table.flags.c_contiguous:  # the rows of all experts follow one another
            table = table.reshape(-1, row)
        per_item = table.size // len(table)  # numbers in an item of the first axis
        if per_item < row:  # a vector whose row spans the first axis (patch_ln1): one block
            table, per_item = table[None], table.size
        step = max(1, weights // per_item)
        for first in range(0, len(table), step):
            yield Block(
                first * (per_item // row), partial(self._read_block, table[first : first + step])
            )

    def _read_block(self, piece: NDArray[Any]) -> NDArray[Any]:
        # A contiguous piece is not copied: its pages are read from the disk when they are used.
        rows = np.ascontiguousarray(piece).reshape(-1, self.row_length)
        if self.value is not None:
            changed = self.value(to_float32(rows))
            # llama.cpp's converter computes in the source's own type where that is F16.
            rows = changed.astype(np.float16) if rows.dtype == np.float16 else changed
        if is_finite(rows) or (self.infinite and not np.isnan(to_float32(rows)).any()):
            return rows
        self.not_finite.setdefault(self.origin)
        return np.zeros_like(rows)


def is_finite(block: NDArray[Any]) -> bool:
    """Return whether `block` has neither NaN nor Inf: float16, float32, or uint16 (BF16 bits)."""
    if block.dtype == np.uint16:
        # As integers without the sign bit, NaN and Inf (0x7F80, in float16 0x7C00) are the largest.
        return bool(np.bitwise_and(block, 0x7FFF).max() < 0x7F80)
    if block.dtype == np.float16:
        return bool(np.bitwise_and(block.view(np.uint16), 0x7FFF).max() < 0x7C00)
    return bool(np.isfinite(block).all())


def to_bf16(x: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the bits of `x` as BF16, rounded to nearest, ties to even. `x` has no NaN."""
    bits = x.view(np.uint32)
    odd = np.right_shift(bits, 16) & 1
    # Just below half a step, plus 1 where the kept bits are odd: a tie then becomes even.
    return np.right_shift(bits + (odd + 0x7FFF), 16).astype(np.uint16)


def to_plain(kind: GGMLType, block: NDArray[Any]) -> NDArray[Any]:
    """Return `block` as float32 (F32), float16 (F16) or uint16 (BF16).

    A value beyond the range of the type becomes Inf.
    """
    if kind is BF16:
        return block if block.dtype == np.uint16 else to_bf16(to_float32(block))
    if kind is F16:
        with np.errstate(over="ignore"):
            return block if block.dtype == np.float16 else to_float32(block).astype(np.float16)
    if kind is F32:
        return to_float32(block)
    raise ValueError(f"{kind.name} is not an unquantized type")


@dataclass(frozen=True, slots=True)
class PlainCoder:
    """Writes every tensor in the type of its spec: F32, F16 or BF16. `threads` 0: one per core."""

    threads: int = 0
    block_weights: int = BLOCK_WEIGHTS

    def plan_tensors(
        self, keys: Mapping[str, Value], specs: Sequence[TensorSpec]
    ) -> tuple[Mapping[str, Value], Sequence[TensorSpec]]:
        """Return both unchanged."""
        return keys, specs

    def encode_tensors(self, tensors: Iterable[tuple[TensorSpec, Rows]]) -> Iterator[memoryview]:
        """Yield the bytes. Raises BadCheckpoint for a value beyond the range of its type."""
        n = self.threads or count_threads()
        pool = ThreadPoolExecutor(n, thread_name_prefix="convert")
        blocks = ((spec, block) for spec, rows in tensors for block in rows())
        try:
            yield from run_in_order(pool, n, (partial(_encode_block, *pair) for pair in blocks))
        finally:
            pool.shutdown(cancel_futures=True)


def _encode_block(spec: TensorSpec, block: Block) -> memoryview:
    source = block.read()
    out = to_plain(spec.type, source)
    if out is not source and spec.type is not F32 and not is_finite(out):
        raise BadCheckpoint(
            f"{spec.name} has values beyond the range of {spec.type.name} near row {block.start}",
            hint="--type bf16 or --type f32",
        )
    return np.ascontiguousarray(out).reshape(-1).view(np.uint8).data
