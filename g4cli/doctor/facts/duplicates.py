"""Find data that occurs twice in a file: rows of a matrix, and whole tensors under two names.

Trained weights never repeat: not even 64 bytes of them. So a row is identified by the 64 bytes in
its middle, and a tensor by 64 bytes of every 4096, which takes a fraction of the time of reading
everything; tensors that agree there are then compared in full. Rows of zeros, and rows of tokens
that kept the same initial value, repeat in sound files too: there, one content occurs often. A
block of different rows that occurs again in the same order is a copy.

To find such blocks, each row gets a *lag*: how many rows earlier the same content occurred last, -1
if it did not. In a copied block all rows have one lag, so the longest run of rows with the same lag
is the longest block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.files import open_file
from g4cli.core.gguf_header import Header, TensorInfo
from g4cli.core.inventory import OUTPUT
from g4cli.doctor.facts.tensor_stats import RepeatedRows, TensorStats

_SAMPLE_BYTES: Final = 64
_SAMPLE_EVERY: Final = 4096
# Fewer rows in a block may repeat by chance in matrices of small integers (a choice).
_MIN_BLOCK_ROWS: Final = 8
# Rows to remember, 16 bytes each; no published matrix has as many, not even all experts together.
_MAX_ROWS: Final = 1 << 20
# Smaller tensors may rightly be equal: scalars, norms that were never trained (a choice).
_MIN_TENSOR_BYTES: Final = 1 << 14
# A content that occurs more often than this (and than in one row of 64) makes no block: zeros, or
# one initial value. A choice: a block that was written twice makes each content occur twice.
_COMMON_CONTENT: Final = 8
_COMMON_SHARE: Final = 64
# Odd factors make a sum of 64-bit words depend on every bit and on the order (multiply-shift
# hashing). The seed is any: the factors must only stay the same within a run.
_FACTORS: Final = np.random.default_rng(4).integers(
    1, 2**63, _SAMPLE_BYTES // 8, dtype=np.uint64
) | np.uint64(1)


class RowHasher:
    """Hashes a tensor that is read in pieces, to find its repeated rows and equal tensors."""

    def __init__(self, tensor: TensorInfo, start: int) -> None:
        """Prepare for a tensor that begins at byte `start` of the file."""
        self._start = start
        self._row_bytes = tensor.type.row_bytes(tensor.shape[0])
        self._is_matrix = len(tensor.shape) > 1 and self._row_bytes >= _SAMPLE_BYTES
        self._n_rows = 0
        self._hashes: list[NDArray[np.uint64]] = []
        self._row_numbers: list[NDArray[np.int64]] = []
        self._digest = hashlib.blake2b(digest_size=16)

    def add_piece(self, offset: int, data: NDArray[np.uint8]) -> None:
        """Add the bytes at `offset` of the file; rows count if the piece begins with one."""
        self._digest.update(_sample_bytes(data))
        if (
            not self._is_matrix
            or (offset - self._start) % self._row_bytes
            or self._n_rows >= _MAX_ROWS
        ):
            return
        n_rows = data.size // self._row_bytes
        rows = data[: n_rows * self._row_bytes].reshape(n_rows, self._row_bytes)
        first_byte = (self._row_bytes - _SAMPLE_BYTES) // 2
        words = np.ascontiguousarray(rows[:, first_byte : first_byte + _SAMPLE_BYTES]).view("<u8")
        self._hashes.append((words * _FACTORS).sum(axis=1, dtype=np.uint64))
        first_row = (offset - self._start) // self._row_bytes
        self._n_rows += n_rows
        self._row_numbers.append(np.arange(first_row, first_row + n_rows, dtype=np.int64))

    @property
    def fingerprint(self) -> str:
        """A hash of the samples: equal for equal tensors."""
        return self._digest.hexdigest()

    def find_repeated(self) -> RepeatedRows:
        """Return the rows that repeat, of all rows added."""
        if not self._hashes:
            return RepeatedRows()
        return find_repeated_rows(np.concatenate(self._hashes), np.concatenate(self._row_numbers))


def _sample_bytes(data: NDArray[np.uint8]) -> bytes:
    """Return 64 bytes of every 4096, or all of a shorter piece."""
    whole = data.size // _SAMPLE_EVERY * _SAMPLE_EVERY
    if not whole:
        return data.tobytes()
    return data[:whole].reshape(-1, _SAMPLE_EVERY)[:, :_SAMPLE_BYTES].tobytes()


def find_repeated_rows(hashes: NDArray[np.uint64], row_numbers: NDArray[np.int64]) -> RepeatedRows:
    """Return the repetitions among rows with these hashes of their contents.

    Both arrays have shape (n,). Row numbers ascend and may have gaps (where rows were not read),
    across which no block extends.
    """
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    equal = ranked[1:] == ranked[:-1]
    n_repeated = int(np.count_nonzero(equal))
    if not n_repeated:
        return RepeatedRows(len(hashes))
    # For each row the index of the previous row with the same content: equal hashes are neighbors
    # in `order`, in the order of their rows.
    previous = np.full(len(hashes), -1, dtype=np.int64)
    previous[order[1:][equal]] = order[:-1][equal]
    _, counts = np.unique(ranked, return_counts=True)
    is_common = counts > max(_COMMON_CONTENT, len(hashes) // _COMMON_SHARE)
    previous[order[np.repeat(is_common, counts)]] = -1
    lags = np.where(previous >= 0, row_numbers - row_numbers[previous], -1)
    # A shorter lag: a few contents take turns, as in the rows of tokens that no text used.
    lags[lags < _MIN_BLOCK_ROWS] = -1
    start, length = _find_longest_run(lags, row_numbers)
    if length < _MIN_BLOCK_ROWS:
        return RepeatedRows(len(hashes), n_repeated)
    second = int(row_numbers[start])
    return RepeatedRows(
        len(hashes), n_repeated, block_rows=length, first=second - int(lags[start]), second=second
    )


def _find_longest_run(lags: NDArray[np.int64], row_numbers: NDArray[np.int64]) -> tuple[int, int]:
    """Return first index and length of the longest run of neighbors with one positive lag."""
    continues = np.zeros(len(lags), dtype=bool)
    continues[1:] = (lags[1:] == lags[:-1]) & (lags[1:] > 0) & (np.diff(row_numbers) == 1)
    starts = np.flatnonzero(~continues)
    lengths = np.diff(np.append(starts, len(lags)))
    lengths[lags[starts] <= 0] = 0
    longest = int(lengths.argmax())
    return int(starts[longest]), int(lengths[longest])


def find_equal_tensors(header: Header, stats: Iterable[TensorStats]) -> tuple[tuple[str, str], ...]:
    """Return pairs of names of matrices that hold the same bytes.

    Fingerprints select the candidates, whose data are then read and compared in full.
    """
    seen: dict[tuple[str, str, int], str] = {}
    pairs = []
    for s in stats:
        tensor = header.tensors[s.name]
        if len(tensor.shape) < 2 or s.nbytes < _MIN_TENSOR_BYTES or s.all_zero:
            continue
        if s.name == OUTPUT:  # a copy of the embeddings is harmless; tensors.tied reports it
            continue
        key = (s.fingerprint, s.type_name, s.nbytes)
        other = seen.setdefault(key, s.name)
        if other != s.name and _have_same_bytes(header, header.tensors[other], tensor):
            pairs.append((other, s.name))
    return tuple(pairs)


def _have_same_bytes(header: Header, one: TensorInfo, two: TensorInfo) -> bool:
    """Return whether two tensors of the same size hold the same bytes."""
    step = 1 << 22  # bytes at once
    with open_file(header.path, buffering=0) as file:
        for offset in range(0, one.nbytes, step):
            pieces = []
            for tensor in (one, two):
                file.seek(header.file_offset(tensor) + offset)
                pieces.append(file.read(min(step, one.nbytes - offset)))
            if pieces[0] != pieces[1]:
                return False
    return True
