"""Read the data of tensors and count what should not be there: zeros in pages, numbers that are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.gguf import Header, TensorInfo

PAGE: Final = 4096
SAMPLE_BYTES: Final = 1 << 18  # per place
SAMPLE_PLACES: Final = 8


@dataclass(frozen=True, slots=True)
class TensorStats:
    """What was seen in `read` of a tensor's `nbytes` bytes: zero bytes, zero pages, non-finite numbers.

    `zero_pages` counts pages of 4096 bytes, aligned in the file; `first_zero_page` is the first one's place.
    """

    name: str
    type_name: str
    nbytes: int
    read: int
    zero_bytes: int
    zero_pages: int
    first_zero_page: int
    non_finite: int

    @property
    def all_zero(self) -> bool:
        """Return whether every byte that was read is zero."""
        return self.read > 0 and self.zero_bytes == self.read


def scan(header: Header, *, full: bool = False) -> tuple[TensorStats, ...]:
    """Return the statistics of every tensor that lies in the file; all bytes with `full`, else samples."""
    found = []
    with open(header.path, "rb") as file:
        for tensor in header.tensors.values():
            start = header.file_offset(tensor)
            end = min(start + tensor.nbytes, header.file_size)
            if start >= end:
                continue
            total = _Total(tensor)
            for place, length in _places(start, end, full):
                file.seek(place)
                total.add(place, file.read(length))
            found.append(total.finish())
    return tuple(found)


def _places(start: int, end: int, full: bool) -> list[tuple[int, int]]:
    size = end - start
    if full:
        step = 1 << 24
        return [(at, min(step, end - at)) for at in range(start, end, step)]
    if size <= SAMPLE_BYTES * SAMPLE_PLACES:
        return [(start, size)]
    # Evenly spread, first and last piece included; places on page boundaries, so that zero pages show.
    gap = (size - SAMPLE_BYTES) / (SAMPLE_PLACES - 1)
    return [
        (start + (int(i * gap) // PAGE * PAGE if 0 < i < SAMPLE_PLACES - 1 else int(i * gap)), SAMPLE_BYTES)
        for i in range(SAMPLE_PLACES)
    ]


class _Total:
    def __init__(self, tensor: TensorInfo) -> None:
        self.tensor = tensor
        self.read = self.zero_bytes = self.zero_pages = self.non_finite = 0
        self.first_zero_page = -1

    def add(self, place: int, data: bytes) -> None:
        octets = np.frombuffer(data, dtype=np.uint8)
        self.read += octets.size
        self.zero_bytes += octets.size - int(np.count_nonzero(octets))
        skip = -place % PAGE
        whole = (octets.size - skip) // PAGE
        if whole > 0:
            pages = octets[skip : skip + whole * PAGE].reshape(whole, PAGE)
            empty = np.flatnonzero(~pages.any(axis=1))
            if empty.size and self.first_zero_page < 0:
                self.first_zero_page = place + skip + int(empty[0]) * PAGE
            self.zero_pages += int(empty.size)
        self.non_finite += _non_finite(self.tensor.type.name, octets)

    def finish(self) -> TensorStats:
        tensor = self.tensor
        return TensorStats(
            tensor.name, tensor.type.name, tensor.nbytes, self.read, self.zero_bytes, self.zero_pages,
            self.first_zero_page, self.non_finite,
        )  # fmt: skip


def _non_finite(type_name: str, octets: NDArray[np.uint8]) -> int:
    """Return how many numbers of a plain tensor are NaN or infinite: all bits of the exponent are set."""
    if type_name == "F32":
        words = octets[: octets.size // 4 * 4].view(np.uint32)
        return int(np.count_nonzero((words & 0x7F800000) == 0x7F800000))
    if type_name in ("F16", "BF16"):
        mask = np.uint16(0x7C00 if type_name == "F16" else 0x7F80)
        halves = octets[: octets.size // 2 * 2].view(np.uint16)
        return int(np.count_nonzero((halves & mask) == mask))
    return 0
