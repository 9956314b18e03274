"""Read the data of tensors and count zero pages, implausible scales, NaN and infinity."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.files import open_file
from g4cli.core.gguf_header import Header, TensorInfo
from g4cli.core.progress import Progress, no_progress
from g4cli.core.sfp8 import ENCODER_KEY, read_labels
from g4cli.doctor.facts.block_scales import LAYOUTS, PLAIN, read_block_scales, to_float32
from g4cli.doctor.facts.duplicates import RowHasher
from g4cli.doctor.facts.sfp8_values import Sfp8ValueCounter
from g4cli.doctor.facts.tensor_stats import TensorStats

PAGE: Final = 4096  # of usual file systems: a write that was lost leaves whole pages of zeros
_SAMPLE_BYTES: Final = 1 << 18
_N_SAMPLES: Final = 8  # spread from the beginning of a tensor to its end
_STEP_BYTES: Final = 1 << 22  # are read at once if all bytes are
_MEDIAN_OF: Final = 65_536  # numbers at most


def scan_tensors(
    header: Header, *, full: bool = False, progress: Progress = no_progress
) -> tuple[TensorStats, ...]:
    """Return the statistics of each tensor that begins within the file.

    Of samples of it, or of all bytes (`full`).

    Uses all cores, and about 30 MB of memory per core. `progress` counts tensors.
    """
    tensors = [t for t in header.tensors.values() if header.file_offset(t) < header.file_size]
    scanned = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for stats in pool.map(lambda t: scan_tensor(header, t, full=full), tensors):
            scanned.append(stats)
            progress(len(scanned), len(tensors), "tensors")
    return tuple(scanned)


def scan_tensor(header: Header, tensor: TensorInfo, *, full: bool) -> TensorStats:
    """Return the statistics of one tensor, from 8 samples of 256 KiB or (`full`) all bytes."""
    start = header.file_offset(tensor)
    end = min(start + tensor.nbytes, header.file_size)
    scan = _TensorScan(tensor, start, _sfp8_counter(header, tensor))
    with open_file(header.path, buffering=0) as file:
        for offset, length in _sample_ranges(start, end, full, _sample_unit(tensor)):
            file.seek(offset)
            scan.add_piece(offset, np.frombuffer(file.read(length), dtype=np.uint8))
    return scan.make_stats()


def _sfp8_counter(header: Header, tensor: TensorInfo) -> Sfp8ValueCounter | None:
    """Return a counter for a tensor that the file labels SFP8, else None."""
    container, names = read_labels(header.keys)
    if tensor.name not in names or tensor.type.name != container:
        return None
    encoder = header.keys.get(ENCODER_KEY)
    return Sfp8ValueCounter(
        container, only_scaled_down=encoder is not None and encoder.data != "rne"
    )


def _sample_unit(tensor: TensorInfo) -> int:
    """Return the bytes of a row, or of a block where rows are longer than a sample."""
    row = tensor.type.row_bytes(tensor.shape[0])
    return row if row <= _SAMPLE_BYTES else tensor.type.block_bytes


def _sample_ranges(start: int, end: int, full: bool, block: int) -> list[tuple[int, int]]:
    """Return (offset, length) of the pieces to read, each of whole blocks (or rows)."""
    size = end - start
    if full or size <= _SAMPLE_BYTES * _N_SAMPLES:
        step = _STEP_BYTES // block * block
        return [(at, min(step, end - at)) for at in range(start, end, step)]
    length = _SAMPLE_BYTES // block * block
    gap = (size - length) / (_N_SAMPLES - 1)
    return [(start + int(i * gap) // block * block, length) for i in range(_N_SAMPLES)]


class _TensorScan:
    """The counts of one tensor while its pieces are read."""

    def __init__(
        self, tensor: TensorInfo, start: int, sfp8_counter: Sfp8ValueCounter | None
    ) -> None:
        self.tensor, self.start = tensor, start
        self.sfp8_counter, self.rows = sfp8_counter, RowHasher(tensor, start)
        self.read = self.zero_bytes = self.zero_pages = self.non_finite = self.negative = (
            self.scales
        ) = 0
        self.first_zero_page = -1
        self.largest = self.median = 0.0

    def add_piece(self, offset: int, data: NDArray[np.uint8]) -> None:
        self.read += data.size
        self._count_zeros(offset, data)
        self.rows.add_piece(offset, data)
        if self.sfp8_counter is not None:
            self.sfp8_counter.add_piece(data)
        layout = LAYOUTS.get(self.tensor.type.name)
        if layout is not None:
            scales = read_block_scales(data, self.tensor.type.block_bytes, layout)
            if not layout.signed:
                self.negative += int(np.count_nonzero(scales < 0))
            self.scales += scales.size
            self._measure_scales(np.abs(scales.ravel()), layout.levels)
            return
        if self.tensor.type.name in PLAIN:
            self._measure_plain(data)

    def _measure_plain(self, data: NDArray[np.uint8]) -> None:
        name, plain = self.tensor.type.name, PLAIN[self.tensor.type.name]
        size = np.dtype(plain.word).itemsize
        words = data[: data.size // size * size].view(plain.word) & plain.magnitude
        if not words.size:
            return
        top = words.max()
        if top >= plain.first_non_finite:
            finite = words[words < plain.first_non_finite]
            self.non_finite += words.size - finite.size
            top = finite.max() if finite.size else words.dtype.type(0)
        self.largest = max(self.largest, float(to_float32(np.array([top]), name)[0]))
        # From the first piece whose median is not zero: enough for an order of magnitude.
        sample = words[:_MEDIAN_OF]
        sample = sample[sample < plain.first_non_finite] if not self.median else sample[:0]
        if sample.size:
            # In double precision: the mean of the two in the middle may leave the range of float32.
            self.median = float(np.median(to_float32(sample, name).astype("f8")))

    def _measure_scales(self, values: NDArray[np.float32], levels: int) -> None:
        if not values.size:
            return
        top = float(values.max())
        if not np.isfinite(top):
            finite = values[np.isfinite(values)]
            self.non_finite += values.size - finite.size
            top = float(finite.max()) if finite.size else 0.0
        self.largest = max(self.largest, top * levels)
        sample = values[:_MEDIAN_OF]
        sample = sample[np.isfinite(sample)] if not self.median else sample[:0]
        if sample.size:
            self.median = float(np.median(sample)) * levels

    def _count_zeros(self, offset: int, data: NDArray[np.uint8]) -> None:
        self.zero_bytes += data.size - int(np.count_nonzero(data))
        skip = -offset % PAGE
        whole = (data.size - skip) // PAGE
        if whole <= 0:
            return
        pages = data[skip : skip + whole * PAGE].reshape(whole, PAGE)
        # The first bytes rule out nearly every page; only the rest is examined in full.
        candidates = np.flatnonzero(~pages[:, :64].any(axis=1))
        empty = candidates[~pages[candidates].any(axis=1)] if candidates.size else candidates
        if empty.size and self.first_zero_page < 0:
            self.first_zero_page = offset + skip + int(empty[0]) * PAGE
        self.zero_pages += int(empty.size)

    def make_stats(self) -> TensorStats:
        t = self.tensor
        return TensorStats(
            t.name,
            t.type.name,
            t.nbytes,
            self.read,
            self.zero_bytes,
            self.zero_pages,
            self.first_zero_page,
            self.non_finite,
            self.negative,
            self.scales,
            self.largest,
            self.median,
            self.sfp8_counter.count_invalid() if self.sfp8_counter is not None else 0,
            self.rows.fingerprint,
            self.rows.find_repeated(),
        )


# Those of the 31B network take 8 MB together.
_VECTOR_BYTES: Final = 64 << 20


def read_vectors(header: Header, limit: int = 1 << 16) -> dict[str, NDArray[np.float32]]:
    """Return the F32 vectors of at most `limit` numbers: norms, scales, the RoPE table.

    Those beyond 64 MiB in total are left out: a small sparse file may claim thousands of them.
    """
    vectors: dict[str, NDArray[np.float32]] = {}
    room = _VECTOR_BYTES
    with open_file(header.path) as file:
        for tensor in header.tensors.values():
            end = header.file_offset(tensor) + tensor.nbytes
            if (
                tensor.type.name == "F32"
                and len(tensor.shape) == 1
                and tensor.nbytes <= room
                and ceil(tensor.nbytes / 4) <= limit
                and end <= header.file_size
            ):
                file.seek(header.file_offset(tensor))
                vectors[tensor.name] = np.frombuffer(file.read(tensor.nbytes), dtype="<f4")
                room -= tensor.nbytes
    return vectors
