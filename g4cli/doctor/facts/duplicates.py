"""Parts of a file that stand in it twice: rows of a matrix, and whole tensors under two names.

Trained weights never repeat: not even 64 bytes of them. So a row is known by the 64 bytes in its middle, a
tensor by 64 bytes of every 4096, which costs a fraction of the reading; what looks alike is then compared in
full. Rows of zeros, and of tokens that all got the same first value, are alike in honest files too: they are
one content that occurs often. A block of different rows that comes back in the same order is a copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.files import open_file
from g4cli.core.inventory import OUTPUT
from g4cli.doctor.checks.file import AGAIN
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped, warn

if TYPE_CHECKING:
    from g4cli.core.gguf_header import Header, TensorInfo
    from g4cli.doctor.facts.file_facts import FileFacts
    from g4cli.doctor.facts.tensor_scan import TensorStats

_SAMPLE: Final = 64
_STEP: Final = 4096
# Rows in a block that comes back: fewer may be chance in matrices of small integers.
_BLOCK: Final = 8
# Rows that equal another one, as a share of all, above which a table is broken: 2.4 % of the published
# vocabulary are tokens that no text ever used.
_MOST_ALIKE: Final = 1 / 3
# Rows to remember, 16 bytes each; no published matrix has as many (experts counted one by one).
_MOST_ROWS: Final = 1 << 20
# Smaller tensors may agree by right: scalars, norms that were never trained.
_SMALLEST: Final = 1 << 14
RECONVERT: Final = "get another file (g4 pull MODEL) or convert it again (g4 convert DIR)"
# Odd factors make a sum of 64-bit words depend on every bit and on the order (multiply-shift hashing).
_FACTORS: Final = np.random.default_rng(4).integers(
    1, 2**63, _SAMPLE // 8, dtype=np.uint64
) | np.uint64(1)


@dataclass(frozen=True, slots=True)
class RowCopies:
    """Of `rows` rows seen, `alike` equal an earlier one; the longest block that comes back, at which rows."""

    rows: int = 0
    alike: int = 0
    block: int = 0
    first: int = -1
    again: int = -1


class Rows:
    """Takes a matrix piece by piece, in whole rows, and finds rows that are alike."""

    def __init__(self, tensor: TensorInfo, start: int) -> None:
        """Watch a tensor that begins at byte `start` of the file."""
        self._start = start
        self.row_bytes = tensor.type.row_bytes(tensor.shape[0])
        self._is_matrix = len(tensor.shape) > 1 and self.row_bytes >= _SAMPLE
        self._rows = 0
        self._hashes: list[NDArray[np.uint64]] = []
        self._numbers: list[NDArray[np.int64]] = []
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, place: int, octets: NDArray[np.uint8]) -> None:
        """Take the bytes at `place` of the file."""
        self._digest.update(_sampled(octets))
        if (
            not self._is_matrix
            or (place - self._start) % self.row_bytes
            or self._rows >= _MOST_ROWS
        ):
            return
        count = octets.size // self.row_bytes
        middle = (self.row_bytes - _SAMPLE) // 2
        rows = octets[: count * self.row_bytes].reshape(count, self.row_bytes)
        words = np.ascontiguousarray(rows[:, middle : middle + _SAMPLE]).view("<u8")
        self._hashes.append((words * _FACTORS).sum(axis=1, dtype=np.uint64))
        first = (place - self._start) // self.row_bytes
        self._rows += count
        self._numbers.append(np.arange(first, first + count, dtype=np.int64))

    @property
    def fingerprint(self) -> str:
        """Return a hash of the samples: equal for equal tensors."""
        return self._digest.hexdigest()

    def finish(self) -> RowCopies:
        """Return what was found."""
        if not self._hashes:
            return RowCopies()
        return alike_rows(np.concatenate(self._hashes), np.concatenate(self._numbers))


def _sampled(octets: NDArray[np.uint8]) -> bytes:
    whole = octets.size // _STEP * _STEP
    if not whole:
        return octets.tobytes()
    return octets[:whole].reshape(-1, _STEP)[:, :_SAMPLE].tobytes()


def alike_rows(hashes: NDArray[np.uint64], numbers: NDArray[np.int64]) -> RowCopies:
    """Return the copies among rows with these `hashes` and row `numbers` (ascending, maybe with gaps)."""
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    equal = ranked[1:] == ranked[:-1]
    alike = int(np.count_nonzero(equal))
    if not alike:
        return RowCopies(len(hashes))
    # For each row the one before it with the same content, in places of `hashes`.
    before = np.full(len(hashes), -1, dtype=np.int64)
    before[order[1:][equal]] = order[:-1][equal]
    # A content that occurs often (zeros, one first value) is no block; its rows stand for nothing.
    _, counts = np.unique(ranked, return_counts=True)
    common = np.repeat(counts > max(8, len(hashes) // 64), counts)
    before[order[common]] = -1
    lag = np.where(before >= 0, numbers - numbers[before], -1)
    block, end = _longest(lag, numbers)
    if block < _BLOCK:
        return RowCopies(len(hashes), alike)
    again = int(numbers[end - block + 1])
    return RowCopies(len(hashes), alike, block, again - int(lag[end]), again)


def _longest(lag: NDArray[np.int64], numbers: NDArray[np.int64]) -> tuple[int, int]:
    """Return the length and the last place of the longest run of rows in a row with one positive lag."""
    same = np.zeros(len(lag), dtype=bool)
    same[1:] = (lag[1:] == lag[:-1]) & (lag[1:] > 0) & (np.diff(numbers) == 1)
    starts = np.flatnonzero(~same)
    lengths = np.diff(np.append(starts, len(lag)))
    lengths[lag[starts] <= 0] = 0
    best = int(lengths.argmax())
    return int(lengths[best]), int(starts[best] + lengths[best] - 1)


def equal_tensors(header: Header, stats: Iterable[TensorStats]) -> tuple[tuple[str, str], ...]:
    """Return pairs of tensors that hold the same bytes under two names; compared in full."""
    seen: dict[tuple[str, str, int], str] = {}
    found = []
    for s in stats:
        tensor = header.tensors[s.name]
        if len(tensor.shape) < 2 or s.nbytes < _SMALLEST or s.all_zero or not s.fingerprint:
            continue
        if (
            s.name == OUTPUT
        ):  # a copy of the embeddings is what the network means; tensors.tied tells of it
            continue
        key = (s.fingerprint, s.type_name, s.nbytes)
        other = seen.setdefault(key, s.name)
        if other != s.name and _same_bytes(header, header.tensors[other], tensor):
            found.append((other, s.name))
    return tuple(found)


def _same_bytes(header: Header, one: TensorInfo, two: TensorInfo, step: int = 1 << 22) -> bool:
    with open_file(header.path, buffering=0) as file:
        for at in range(0, one.nbytes, step):
            pieces = []
            for tensor in (one, two):
                file.seek(header.file_offset(tensor) + at)
                pieces.append(file.read(min(step, one.nbytes - at)))
            if pieces[0] != pieces[1]:
                return False
    return True


def check_copies(facts: FileFacts) -> Outcome:
    """Look for rows and tensors that stand in the file twice."""
    if not facts.stats:
        return skipped("the data was not read", "g4 doctor FILE")
    blocks = [(s, s.copies) for s in facts.stats if s.copies.block]
    if facts.copies:
        one, two = facts.copies[0]
        more = f" ({len(facts.copies)} such pairs)" if len(facts.copies) > 1 else ""
        return fail(
            f"{two} holds the same bytes as {one}{more}: a layer was written twice, and another one is lost",
            RECONVERT,
            cause="conversion-defect",
            confidence="high",
            detail=tuple(f"{a} = {b}" for a, b in facts.copies),
        )
    if blocks:
        s, c = max(blocks, key=lambda b: b[1].block)
        return fail(
            f"{c.block:,} rows of {s.name} from row {c.again:,} on repeat those from row {c.first:,} on: a "
            "part was written twice, and another one is lost",
            AGAIN,
            cause="file-damaged",
            confidence="high",
            detail=tuple(s.name for s, _ in blocks),
        )
    alike = [
        s
        for s in facts.stats
        if not s.all_zero and s.copies.alike > _MOST_ALIKE * s.copies.rows > 0
    ]
    if alike:
        s = max(alike, key=lambda s: s.copies.alike / s.copies.rows)
        found = f"{s.copies.alike:,} of {s.copies.rows:,} rows of {s.name} equal another row"
        if facts.shape is None:
            return warn(found)
        return fail(
            f"{found}: those weights were lost",
            RECONVERT,
            cause="conversion-defect",
            confidence="medium",
            detail=tuple(s.name for s in alike),
        )
    rows = sum(s.copies.rows for s in facts.stats)
    return ok(f"no part twice: {rows:,} rows, {sum(s.copies.alike for s in facts.stats):,} alike")


CHECKS: Final = (Check("weights.copies", check_copies),)
