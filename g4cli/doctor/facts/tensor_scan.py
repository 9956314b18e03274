"""Read the data of tensors and count what should not be there: zero pages, wild scales, no numbers."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.files import open_file
from g4cli.core.gguf_header import Header, TensorInfo
from g4cli.core.progress import Progress, no_progress
from g4cli.core.sfp8 import ENCODER_KEY, labelled
from g4cli.doctor.facts.block_scales import LAYOUTS, PLAIN, as_floats, block_scales
from g4cli.doctor.facts.duplicates import RowCopies, Rows
from g4cli.doctor.facts.sfp8_values import Carried

PAGE: Final = 4096
SAMPLE_BYTES: Final = 1 << 18  # per place
SAMPLE_PLACES: Final = 8
_STEP_BYTES: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class TensorStats:
    """What was seen in `read` of a tensor's `nbytes` bytes.

    `zero_pages` counts pages of 4096 bytes, aligned in the file; `first_zero_page` is the first one's place.
    Of plain tensors `largest` is the largest magnitude, of quantised ones an upper bound of it; `median` is
    of the magnitudes of numbers or scales in one piece. `negative` counts scales that cannot be negative,
    `foreign` numbers that a label calls SFP8's and that are not. Equal tensors have equal fingerprints.
    """

    name: str
    type_name: str
    nbytes: int
    read: int
    zero_bytes: int = 0
    zero_pages: int = 0
    first_zero_page: int = -1
    non_finite: int = 0
    negative: int = 0
    scales: int = 0
    largest: float = 0.0
    median: float = 0.0
    foreign: int = 0
    fingerprint: str = ""
    copies: RowCopies = field(default_factory=RowCopies)

    @property
    def all_zero(self) -> bool:
        """Return whether every byte that was read is zero."""
        return self.read > 0 and self.zero_bytes == self.read


def scan(
    header: Header, *, full: bool = False, progress: Progress = no_progress
) -> tuple[TensorStats, ...]:
    """Return the statistics of every tensor that lies in the file; all bytes with `full`, else samples.

    Uses all cores and at most some 30 MB a core. `progress` counts tensors.
    """
    tensors = [t for t in header.tensors.values() if header.file_offset(t) < header.file_size]
    found = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for stats in pool.map(lambda t: scan_tensor(header, t, full=full), tensors):
            found.append(stats)
            progress(len(found), len(tensors), "tensors")
    return tuple(found)


def scan_tensor(header: Header, tensor: TensorInfo, *, full: bool) -> TensorStats:
    """Return the statistics of one tensor."""
    start = header.file_offset(tensor)
    end = min(start + tensor.nbytes, header.file_size)
    total = _Total(tensor, start, _carried(header, tensor))
    with open_file(header.path, buffering=0) as file:
        for place, length in _places(start, end, full, _unit(tensor)):
            file.seek(place)
            total.add(place, np.frombuffer(file.read(length), dtype=np.uint8))
    return total.finish()


def _carried(header: Header, tensor: TensorInfo) -> Carried | None:
    """Return what watches a tensor that the file's label calls SFP8, else None."""
    container, names = labelled(header.keys)
    if tensor.name not in names or tensor.type.name != container:
        return None
    encoder = header.keys.get(ENCODER_KEY)
    return Carried(container, only_down=encoder is not None and encoder.data != "rne")


def _unit(tensor: TensorInfo) -> int:
    """Return the bytes of a row, or of a block where rows are longer than a sample."""
    row = tensor.type.row_bytes(tensor.shape[0])
    return row if row <= SAMPLE_BYTES else tensor.type.block_bytes


def _places(start: int, end: int, full: bool, block: int) -> list[tuple[int, int]]:
    """Return (place, length) of the pieces to read, each of whole blocks (or rows)."""
    size = end - start
    if full or size <= SAMPLE_BYTES * SAMPLE_PLACES:
        step = _STEP_BYTES // block * block
        return [(at, min(step, end - at)) for at in range(start, end, step)]
    length = SAMPLE_BYTES // block * block
    gap = (size - length) / (SAMPLE_PLACES - 1)
    return [(start + int(i * gap) // block * block, length) for i in range(SAMPLE_PLACES)]


class _Total:
    def __init__(self, tensor: TensorInfo, start: int, carried: Carried | None) -> None:
        self.tensor, self.start = tensor, start
        self.carried, self.rows = carried, Rows(tensor, start)
        self.read = self.zero_bytes = self.zero_pages = self.non_finite = self.negative = (
            self.scales
        ) = 0
        self.first_zero_page = -1
        self.largest = self.median = 0.0

    def add(self, place: int, octets: NDArray[np.uint8]) -> None:
        self.read += octets.size
        self._zeros(place, octets)
        self.rows.add(place, octets)
        if self.carried is not None:
            self.carried.add(octets)
        layout = LAYOUTS.get(self.tensor.type.name)
        if layout is not None:
            scales = block_scales(octets, self.tensor.type.block_bytes, layout)
            if not layout.signed:
                self.negative += int(np.count_nonzero(scales < 0))
            self.scales += scales.size
            self._magnitudes(np.abs(scales.ravel()), layout.levels)
            return
        if self.tensor.type.name in PLAIN:
            self._plain(octets)

    def _plain(self, octets: NDArray[np.uint8]) -> None:
        name, plain = self.tensor.type.name, PLAIN[self.tensor.type.name]
        size = np.dtype(plain.word).itemsize
        words = octets[: octets.size // size * size].view(plain.word) & plain.magnitude
        if not words.size:
            return
        top = words.max()
        if top >= plain.no_number:
            finite = words[words < plain.no_number]
            self.non_finite += words.size - finite.size
            top = finite.max() if finite.size else words.dtype.type(0)
        self.largest = max(self.largest, float(as_floats(np.array([top]), name)[0]))
        held = words[:65_536]
        held = held[held < plain.no_number] if not self.median else held[:0]
        if held.size:
            # In double precision: the mean of the two in the middle may leave the range of float32.
            self.median = float(np.median(as_floats(held, name).astype("f8")))

    def _magnitudes(self, values: NDArray[np.float32], levels: int) -> None:
        if not values.size:
            return
        top = float(values.max())
        if not np.isfinite(top):
            finite = values[np.isfinite(values)]
            self.non_finite += values.size - finite.size
            top = float(finite.max()) if finite.size else 0.0
        self.largest = max(self.largest, top * levels)
        if not self.median:
            self.median = float(np.median(values[:65_536])) * levels

    def _zeros(self, place: int, octets: NDArray[np.uint8]) -> None:
        self.zero_bytes += octets.size - int(np.count_nonzero(octets))
        skip = -place % PAGE
        whole = (octets.size - skip) // PAGE
        if whole <= 0:
            return
        pages = octets[skip : skip + whole * PAGE].reshape(whole, PAGE)
        # The first bytes rule out nearly every page; only the others are read to the end.
        doubtful = np.flatnonzero(~pages[:, :64].any(axis=1))
        empty = doubtful[~pages[doubtful].any(axis=1)] if doubtful.size else doubtful
        if empty.size and self.first_zero_page < 0:
            self.first_zero_page = place + skip + int(empty[0]) * PAGE
        self.zero_pages += int(empty.size)

    def finish(self) -> TensorStats:
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
            self.carried.finish() if self.carried is not None else 0,
            self.rows.fingerprint,
            self.rows.finish(),
        )


# Together: the 31B network's take 8 MB.
_VECTOR_BYTES: Final = 64 << 20


def read_vectors(header: Header, limit: int = 1 << 16) -> dict[str, NDArray[np.float32]]:
    """Return the one-dimensional F32 tensors of at most `limit` numbers: norms, scales, the RoPE table.

    Those beyond 64 MiB in total are left out: a small file may claim thousands, full of holes.
    """
    found: dict[str, NDArray[np.float32]] = {}
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
                found[tensor.name] = np.frombuffer(file.read(tensor.nbytes), dtype="<f4")
                room -= tensor.nbytes
    return found
