"""Encode tensors in blocks of rows, on all cores, in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from g4cli.core.ggml import BF16
from g4cli.core.gguf_write import TensorSpec
from g4cli.core.row_blocks import Block, Rows, count_threads, run_in_order
from g4cli.core.sfp8 import SCALE_SUFFIX
from g4cli.quant import sfp8
from g4cli.quant.recipes import Recipe, is_rounded
from g4cli.quant.values import (
    as_float32,
    count_zero_blocks,
    encode_values,
    find_largest,
    finite_float32,
    is_finite_bf16,
    require_finite_bytes,
)

# Weights per block: 0.5 MiB as float32, so that a block stays in its core's cache between steps.
BLOCK_WEIGHTS: Final = 1 << 17

Imatrix: TypeAlias = Mapping[str, NDArray[np.float32]]


@dataclass(slots=True)
class Counts:
    """What happened to one tensor's weights.

    `zero_blocks` hold only zeros. `n_clamped` weights exceeded SFP8's range, `n_underflow` were too
    small for it and became zero. The SFP8 scale is two to the power of `exponent`.
    """

    zero_blocks: int = 0
    n_clamped: int = 0
    n_underflow: int = 0
    exponent: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """An encoded block and what happened in it, as in Counts."""

    data: NDArray[np.uint8]
    zero_blocks: int = 0
    n_clamped: int = 0
    n_underflow: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A tensor to encode: `rows` are its weights, `spec` is the tensor of the new file.

    With `copy` the blocks of `rows` are bytes of the new file, and `Block.start` counts bytes.
    """

    spec: TensorSpec
    rows: Rows
    copy: bool = False


def one_block() -> Iterable[Block]:
    """Return the only, empty block of a tensor without a source: the scale in an SFP8 archive."""
    return (Block(0, lambda: np.empty((0, 0), np.float32)),)


@contextmanager
def open_encoder(
    recipe: Recipe, *, threads: int | None = None, imatrix: Imatrix | None = None
) -> Iterator[Encoder]:
    """Yield an Encoder with its threads; on leaving, jobs that have not begun are dropped."""
    pool = ThreadPoolExecutor(threads or count_threads(), thread_name_prefix="encode")
    try:
        yield Encoder(recipe, pool, threads or count_threads(), imatrix or {})
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(slots=True)
class Encoder:
    """Encodes tensors for one recipe, in `threads` threads of `pool`, which its maker closes.

    `counts` holds what happened so far, by tensor name.
    """

    recipe: Recipe
    pool: ThreadPoolExecutor
    threads: int
    imatrix: Imatrix
    counts: dict[str, Counts] = field(default_factory=dict)

    def encode_jobs(self, jobs: Iterable[Job]) -> Iterator[memoryview]:
        """Yield the bytes of all `jobs` in order, each in the type of its spec.

        A tensor is started before the previous one is finished, so that no thread waits. Raises
        BadFile, naming tensor and position, if a weight is NaN or infinite or overflows the type.
        """
        for counts, piece in run_in_order(self.pool, self.threads, self._make_tasks(jobs)):
            counts.zero_blocks += piece.zero_blocks
            counts.n_clamped += piece.n_clamped
            counts.n_underflow += piece.n_underflow
            yield piece.data.reshape(-1).data

    def _make_tasks(self, jobs: Iterable[Job]) -> Iterator[Callable[[], tuple[Counts, Piece]]]:
        for job in jobs:
            counts = self.counts.setdefault(job.spec.name, Counts())
            encode_block = self._choose_encoder(job, counts)
            for block in job.rows():
                yield partial(_encode_counted, counts, encode_block, job.spec, block)

    def _choose_encoder(self, job: Job, counts: Counts) -> Callable[[TensorSpec, Block], Piece]:
        if job.copy:
            return _copy_block
        if self.recipe.is_archive and job.spec.name.endswith(SCALE_SUFFIX):
            exponent = self.counts[job.spec.name.removesuffix(SCALE_SUFFIX)].exponent
            return lambda _spec, _block: Piece(np.array([2.0**exponent], "<f4").view(np.uint8))
        if not is_rounded(self.recipe, job.spec.name, job.spec.shape):
            return self._encode_block
        if not counts.exponent:
            counts.exponent = self._choose_exponent(job)
        return partial(self._encode_sfp8, counts.exponent)

    def _choose_exponent(self, job: Job) -> int:
        def find_one(block: Block) -> float:
            return find_largest(block.read(), job.spec, block.start)

        largest = max(self.pool.map(find_one, job.rows()), default=0.0)
        return sfp8.scale_exponent(largest, only_down=self.recipe.sfp8_encoder == "gemma.cpp")

    def _encode_block(self, spec: TensorSpec, block: Block) -> Piece:
        raw = block.read()
        if raw.dtype == np.uint16 and spec.type is BF16 and is_finite_bf16(raw):
            return Piece(np.ascontiguousarray(raw, "<u2").view(np.uint8))
        values = finite_float32(raw, spec, block.start)
        encoded = encode_values(spec, values, block.start, self.imatrix.get(spec.name))
        return Piece(encoded, zero_blocks=count_zero_blocks(spec.type, encoded))

    def _encode_sfp8(self, exponent: int, spec: TensorSpec, block: Block) -> Piece:
        raw = block.read()
        coded = sfp8.encode_sfp8(
            raw if raw.dtype == np.uint16 else as_float32(raw),
            exponent,
            gemma_cpp=self.recipe.sfp8_encoder == "gemma.cpp",
        )
        return Piece(
            self._store_codes(spec, block, coded.codes, exponent),
            n_clamped=coded.n_clamped,
            n_underflow=coded.n_underflow,
        )

    def _store_codes(
        self, spec: TensorSpec, block: Block, codes: NDArray[np.uint8], exponent: int
    ) -> NDArray[np.uint8]:
        if self.recipe.is_archive:
            return codes
        words = sfp8.decode_bf16(codes, exponent)
        if spec.type is BF16:
            return words.astype("<u2", copy=False).view(np.uint8)
        return encode_values(spec, as_float32(words), block.start, None)


def _encode_counted(
    counts: Counts, encode: Callable[[TensorSpec, Block], Piece], spec: TensorSpec, block: Block
) -> tuple[Counts, Piece]:
    return counts, encode(spec, block)


def _copy_block(spec: TensorSpec, block: Block) -> Piece:
    data = block.read()
    require_finite_bytes(data, spec, block.start)
    return Piece(data)
