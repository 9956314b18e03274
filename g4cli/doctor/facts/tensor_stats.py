"""The statistics of a tensor's data."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RepeatedRows:
    """Rows of a matrix that repeat earlier rows.

    Of `rows` rows seen, `n_repeated` equal an earlier one. The longest block of rows that occurs
    twice has `block_rows` rows and starts at rows `first` and `second` (-1 without such a block).
    """

    rows: int = 0
    n_repeated: int = 0
    block_rows: int = 0
    first: int = -1
    second: int = -1


@dataclass(slots=True)
class TensorStats:
    """What was counted in the `read` bytes that were read of a tensor's `nbytes` bytes.

    `zero_pages` counts pages of 4096 zero bytes, aligned in the file; `first_zero_page` is the byte
    offset in the file of the first one, -1 without any. `non_finite` counts NaN and infinity among
    the numbers of a plain type or the scales of a quantized one, `scales` those scales. `largest`
    is the largest magnitude of a plain tensor, an upper bound of it for a quantized one; `median`
    the median magnitude of one sample, likewise. `negative` counts scales below zero in types whose
    scales never are; `not_sfp8` counts numbers that are labeled SFP8 values and are not. Equal
    tensors have equal fingerprints.
    """

    name: str
    type_name: str
    nbytes: int
    read: int = 0
    zero_bytes: int = 0
    zero_pages: int = 0
    first_zero_page: int = -1
    non_finite: int = 0
    negative: int = 0
    scales: int = 0
    largest: float = 0.0
    median: float = 0.0
    not_sfp8: int = 0
    fingerprint: str = ""
    repeated: RepeatedRows = field(default_factory=RepeatedRows)

    @property
    def all_zero(self) -> bool:
        """Whether every byte that was read is zero."""
        return self.read > 0 and self.zero_bytes == self.read
