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
from g4cli.core.gguf_header import TensorSpec
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


@dataclass(frozen=True, slots=True)
class Counts:
    """What happened to weights; the counts of two blocks can be added.

    `zero_blocks` hold only zeros. `n_clamped` weights exceeded SFP8's range, `n_underflow` were too
    small for it and became zero.
    """

    zero_blocks: int = 0
    n_clamped: int = 0
    n_underflow: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.zero_blocks + other.zero_blocks,
            self.n_clamped + other.n_clamped,
            self.n_underflow + other.n_underflow,
        )


EncodedBlock: TypeAlias = tuple[NDArray[np.uint8], Counts]


@dataclass(frozen=True, slots=True)
class Job:
    """A tensor to encode: `rows` are its weights, `spec` is the tensor of the new file.

    With `copy` the blocks of `rows` are bytes of the new file already, which are only checked, and
    `Block.start` counts bytes instead of rows.
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
    """Yield an Encoder with its threads (None: one per core); on leaving, what waits is dropped.

    `imatrix` has the weights of columns by tensor name, as `imatrix.check_fits` returns them.
    """
    n_threads = threads or count_threads()
    pool = ThreadPoolExecutor(n_threads, thread_name_prefix="encode")
    try:
        yield Encoder(recipe, pool, n_threads, imatrix or {})
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(slots=True)
class Encoder:
    """Encodes tensors for one recipe, in `threads` threads of `pool`, which its maker closes.

    `counts` sums up what happened so far. `exponents[name]` is k of the SFP8 scale 2^k of a tensor.
    """

    recipe: Recipe
    pool: ThreadPoolExecutor
    threads: int
    imatrix: Imatrix
    counts: Counts = Counts()
    exponents: dict[str, int] = field(default_factory=dict)

    def encode_jobs(self, jobs: Iterable[Job]) -> Iterator[memoryview]:
        """Yield the bytes of all `jobs` in order, each in the type of its spec.

        A tensor is started before the previous one is finished, so that no thread waits. Raises
        BadFile, naming tensor and position, if a weight is NaN or infinite or overflows the type.
        """
        for data, counts in run_in_order(self.pool, self.threads, self._make_tasks(jobs)):
            self.counts += counts
            yield data.reshape(-1).data

    def _make_tasks(self, jobs: Iterable[Job]) -> Iterator[Callable[[], EncodedBlock]]:
        for job in jobs:
            encode_block = self._choose_encoder(job)
            for block in job.rows():
                yield partial(encode_block, job.spec, block)

    def _choose_encoder(self, job: Job) -> Callable[[TensorSpec, Block], EncodedBlock]:
        """Return the function that the threads call with each block of the job."""
        name = job.spec.name
        if job.copy:
            return _copy_block
        if self.recipe.is_archive and name.endswith(SCALE_SUFFIX):
            # The tensor whose scale this is comes before it (`recipes.with_scales`).
            scale = np.array([2.0 ** self.exponents[name.removesuffix(SCALE_SUFFIX)]], "<f4")
            return lambda _spec, _block: (scale.view(np.uint8), Counts())
        if not is_rounded(self.recipe, name, job.spec.shape):
            return self._encode_block
        exponent = self.exponents[name] = self._choose_exponent(job)
        return partial(self._encode_sfp8, exponent)

    def _choose_exponent(self, job: Job) -> int:
        """Return k of the tensor's scale 2^k, for which all of it is read once more."""

        def find_one(block: Block) -> float:
            return find_largest(block.read(), job.spec, block.start)

        largest = max(self.pool.map(find_one, job.rows()), default=0.0)
        return sfp8.scale_exponent(largest, only_down=self.recipe.sfp8_encoder == "gemma.cpp")

    def _encode_block(self, spec: TensorSpec, block: Block) -> EncodedBlock:
        raw = block.read()
        if raw.dtype == np.uint16 and spec.type is BF16 and is_finite_bf16(raw):
            return np.ascontiguousarray(raw, "<u2").view(np.uint8), Counts()
        values = finite_float32(raw, spec, block.start)
        encoded = encode_values(spec, values, block.start, self.imatrix.get(spec.name))
        return encoded, Counts(count_zero_blocks(spec.type, encoded))

    def _encode_sfp8(self, exponent: int, spec: TensorSpec, block: Block) -> EncodedBlock:
        raw = block.read()
        coded = sfp8.encode_sfp8(
            raw if raw.dtype == np.uint16 else as_float32(raw),
            exponent,
            gemma_cpp=self.recipe.sfp8_encoder == "gemma.cpp",
        )
        counts = Counts(n_clamped=coded.n_clamped, n_underflow=coded.n_underflow)
        if self.recipe.is_archive:
            return coded.codes, counts
        # The containers BF16 and Q8_0 hold the values of the codes.
        words = sfp8.decode_bf16(coded.codes, exponent)
        if spec.type is BF16:
            return words.astype("<u2", copy=False).view(np.uint8), counts
        return encode_values(spec, as_float32(words), block.start, None), counts


def _copy_block(spec: TensorSpec, block: Block) -> EncodedBlock:
    data = block.read()
    require_finite_bytes(data, spec, block.start)
    return data, Counts()
