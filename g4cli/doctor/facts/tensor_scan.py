"""Read the data of tensors and count what damage leaves in it: zeros, NaN, odd scales, copies.

`gather.py` calls `scan_tensors`; the checks of weights judge the `TensorStats` that come back. The
data are read once, in pieces that hold whole blocks: from a tensor of more than 2 MiB only samples,
unless all bytes are asked for (--deep). `gather.py` also calls `read_vectors`, for the checks that
need the numbers of norms and scales themselves.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.files import open_file
from g4cli.core.ggml import PLAIN_TYPES
from g4cli.core.gguf_header import Header, TensorInfo
from g4cli.core.progress import Progress, no_progress
from g4cli.core.sfp8 import ENCODER_KEY, read_labels
from g4cli.doctor.facts.block_scales import LAYOUTS, read_block_scales, to_float32
from g4cli.doctor.facts.duplicates import RowHasher
from g4cli.doctor.facts.sfp8_values import Sfp8ValueCounter
from g4cli.doctor.facts.tensor_stats import TensorStats

# Bytes in a page of usual file systems: a write that was lost leaves whole pages of zeros.
PAGE: Final = 4096
# A choice: 8 samples of 256 KiB, spread from the beginning of a tensor to its end. At 200 MB/s they
# take one second for each hundred tensors.
_SAMPLE_BYTES: Final = 1 << 18
_N_SAMPLES: Final = 8
# Bytes to read at once where all are read (a choice).
_STEP_BYTES: Final = 1 << 22
# A median is taken of so many numbers at most: only its order of magnitude matters.
_MEDIAN_SAMPLE: Final = 65_536
# First bytes of a page that are looked at before the others: in nearly every page one of them is
# not zero, so that the rest need not be read (a choice).
_PAGE_START: Final = 64


def scan_tensors(
    header: Header, *, full: bool = False, progress: Progress = no_progress
) -> tuple[TensorStats, ...]:
    """Return the statistics of each tensor that begins within the file.

    They are those of samples of its data, or of all bytes (`full`). Uses all cores, and about 30 MB
    of memory per core: a piece of up to 4 MiB, what is computed of it, and the hashes of the
    tensor's rows. `progress` counts tensors.
    """
    tensors = [t for t in header.tensors.values() if header.file_offset(t) < header.file_size]
    scanned = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for stats in pool.map(lambda t: scan_tensor(header, t, full=full), tensors):
            scanned.append(stats)
            progress(len(scanned), len(tensors), "tensors")
    return tuple(scanned)


def scan_tensor(header: Header, tensor: TensorInfo, *, full: bool) -> TensorStats:
    """Return the statistics of one tensor, of samples or (`full`) of all bytes in the file."""
    start = header.file_offset(tensor)
    end = min(start + tensor.nbytes, header.file_size)
    scan = _TensorScan(tensor, start, _make_sfp8_counter(header, tensor))
    with open_file(header.path, buffering=0) as file:
        for offset, length in _sample_ranges(start, end, full, _find_unit_bytes(tensor)):
            file.seek(offset)
            scan.add_piece(offset, np.frombuffer(file.read(length), dtype=np.uint8))
    return scan.finish()


def _make_sfp8_counter(header: Header, tensor: TensorInfo) -> Sfp8ValueCounter | None:
    """Return a counter for a tensor that the file labels SFP8, else None."""
    container, names = read_labels(header.keys)
    if tensor.name not in names or tensor.type.name != container:
        return None
    # The key names the encoder: "gemma.cpp" (Google's engine for CPUs), which scales down only, or
    # "rne" (g4's own, which rounds to the nearest, half to even), which scales up as well.
    encoder = header.keys.get(ENCODER_KEY)
    return Sfp8ValueCounter(
        container, only_scaled_down=encoder is not None and encoder.data != "rne"
    )


def _find_unit_bytes(tensor: TensorInfo) -> int:
    """Return the bytes of what a piece must not divide: a row, or a block of a very long row."""
    row_bytes = tensor.type.row_bytes(tensor.shape[0])
    return row_bytes if row_bytes <= _SAMPLE_BYTES else tensor.type.block_bytes


def _sample_ranges(start: int, end: int, full: bool, unit_bytes: int) -> list[tuple[int, int]]:
    """Return (offset, length) of the pieces to read of the bytes `start` to `end` of the file."""
    size = end - start
    if full or size <= _SAMPLE_BYTES * _N_SAMPLES:
        step = _STEP_BYTES // unit_bytes * unit_bytes
        return [(offset, min(step, end - offset)) for offset in range(start, end, step)]
    length = _SAMPLE_BYTES // unit_bytes * unit_bytes
    gap = (size - length) / (_N_SAMPLES - 1)
    return [(start + int(i * gap) // unit_bytes * unit_bytes, length) for i in range(_N_SAMPLES)]


class _TensorScan:
    """Fills in `stats`, those of one tensor, while its pieces are read."""

    def __init__(
        self, tensor: TensorInfo, start: int, sfp8_counter: Sfp8ValueCounter | None
    ) -> None:
        """`start`: the tensor's first byte in the file. `sfp8_counter` None: not labeled SFP8."""
        self.stats = TensorStats(tensor.name, tensor.type.name, tensor.nbytes)
        self._block_bytes = tensor.type.block_bytes
        self._sfp8_counter, self._row_hasher = sfp8_counter, RowHasher(tensor, start)

    def add_piece(self, offset: int, data: NDArray[np.uint8]) -> None:
        """Count in `data`, the bytes at `offset` of the file, which begin with a row or a block."""
        stats, type_name = self.stats, self.stats.type_name
        stats.read += data.size
        self._count_zeros(offset, data)
        self._row_hasher.add_piece(offset, data)
        if self._sfp8_counter is not None:
            self._sfp8_counter.add_piece(data)
        layout = LAYOUTS.get(type_name)
        if layout is not None:
            scales = read_block_scales(data, self._block_bytes, layout)
            if not layout.signed:
                stats.negative += int(np.count_nonzero(scales < 0))
            stats.scales += scales.size
            # The scales are measured as a plain tensor of F32 would be.
            self._measure_numbers(scales.ravel().view(np.uint8), "F32", layout.max_factor)
        elif type_name in PLAIN_TYPES:
            self._measure_numbers(data, type_name)

    def _measure_numbers(self, data: NDArray[np.uint8], type_name: str, factor: int = 1) -> None:
        """Measure numbers of a plain type; the weights are at most `factor` times as large.

        They are compared as words: conversion would take most of the time.
        """
        stats, plain = self.stats, PLAIN_TYPES[type_name]
        size = np.dtype(plain.word).itemsize
        words = data[: data.size // size * size].view(plain.word) & plain.magnitude_mask
        if not words.size:
            return
        largest = words.max()
        if largest >= plain.infinity:
            finite = words[words < plain.infinity]
            stats.non_finite += words.size - finite.size
            largest = finite.max() if finite.size else words.dtype.type(0)
        found = float(to_float32(np.array([largest]), type_name)[0]) * factor
        stats.largest = max(stats.largest, found)
        # From the first piece whose median is not zero: enough for an order of magnitude.
        if not stats.median:
            sample = words[:_MEDIAN_SAMPLE]
            sample = sample[sample < plain.infinity]
            if sample.size:
                # In double precision: the mean of the two in the middle may overflow float32.
                stats.median = float(np.median(to_float32(sample, type_name).astype("f8"))) * factor

    def _count_zeros(self, offset: int, data: NDArray[np.uint8]) -> None:
        """Count zero bytes, and zero pages: those that begin at a multiple of PAGE in the file."""
        self.stats.zero_bytes += data.size - int(np.count_nonzero(data))
        skip = -offset % PAGE
        n_pages = (data.size - skip) // PAGE
        if n_pages <= 0:
            return
        pages = data[skip : skip + n_pages * PAGE].reshape(n_pages, PAGE)
        candidates = np.flatnonzero(~pages[:, :_PAGE_START].any(axis=1))
        empty = candidates[~pages[candidates].any(axis=1)]
        if empty.size and self.stats.first_zero_page < 0:
            self.stats.first_zero_page = offset + skip + int(empty[0]) * PAGE
        self.stats.zero_pages += int(empty.size)

    def finish(self) -> TensorStats:
        """Return the statistics of all pieces."""
        if self._sfp8_counter is not None:
            self.stats.not_sfp8 = self._sfp8_counter.count_invalid()
        self.stats.fingerprint = self._row_hasher.fingerprint
        self.stats.repeated = self._row_hasher.find_repeated()
        return self.stats


# For read_vectors: a small sparse file may claim thousands of vectors. Those of the 31B network
# take 8 MB together, and the longest of them has 5,376 numbers.
_MAX_VECTORS_BYTES: Final = 64 << 20
_MAX_VECTOR_LENGTH: Final = 1 << 16


def read_vectors(header: Header) -> dict[str, NDArray[np.float32]]:
    """Return the F32 vectors of a file by name: norms, scales, the RoPE table; each of shape (n,).

    Those of more than 65,536 numbers, and those beyond 64 MiB in total, are left out.
    """
    vectors: dict[str, NDArray[np.float32]] = {}
    n_bytes_left = _MAX_VECTORS_BYTES
    with open_file(header.path) as file:
        for tensor in header.tensors.values():
            end = header.file_offset(tensor) + tensor.nbytes
            if (
                tensor.type.name == "F32"
                and len(tensor.shape) == 1
                and tensor.nbytes <= n_bytes_left
                and tensor.nbytes <= 4 * _MAX_VECTOR_LENGTH
                and end <= header.file_size
            ):
                file.seek(header.file_offset(tensor))
                vectors[tensor.name] = np.frombuffer(file.read(tensor.nbytes), dtype="<f4")
                n_bytes_left -= tensor.nbytes
    return vectors
