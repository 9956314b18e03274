"""The error of quantized weights: RMSE, signal-to-noise ratio, largest error, cosine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice
from math import inf, log10, prod, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import BadFile
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_word
from g4cli.core.row_blocks import Block, count_threads
from g4cli.quant.reader import Reader
from g4cli.quant.recipes import drop_layer
from g4cli.quant.source import open_source
from g4cli.quant.values import as_float32


@dataclass(frozen=True, slots=True)
class ErrorSums:
    """Sums over `n` weights (float64) from which all measures follow; those of two parts add up.

    `signal`, `result` and `noise` are sums of squares: of the weights before and after, and of
    their differences; `product` sums weight before times weight after. `largest` is the largest
    magnitude of a difference. `n_zero` weights are zero after, `n_lost` of them were not before;
    `n_bad` are not finite on either side, and left out of all sums.
    """

    n: int = 0
    signal: float = 0.0
    result: float = 0.0
    noise: float = 0.0
    product: float = 0.0
    largest: float = 0.0
    n_lost: int = 0
    n_zero: int = 0
    n_bad: int = 0

    def __add__(self, other: ErrorSums) -> ErrorSums:
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return ErrorSums(**{**sums, "largest": max(self.largest, other.largest)})

    @property
    def rmse(self) -> float:
        """Return the root of the mean squared error."""
        return sqrt(self.noise / self.n) if self.n else 0.0

    @property
    def snr_db(self) -> float:
        """Return 10 log10 of signal power over error power; infinite if nothing changed."""
        if not self.noise:
            return inf
        return 10 * log10(self.signal / self.noise) if self.signal else -inf

    @property
    def cosine(self) -> float:
        """Return the cosine of the angle between old and new weights; 1 if all are zero."""
        size = sqrt(self.signal) * sqrt(self.result)
        return self.product / size if size else float(self.signal == self.result)

    def as_json(self) -> dict[str, Any]:
        """Return the measures; `snr_db` is null where nothing changed."""
        return {
            "weights": self.n,
            "rmse": self.rmse,
            "snr_db": None if self.snr_db in (inf, -inf) else round(self.snr_db, 3),
            "max_error": self.largest,
            "cosine": self.cosine,
            "became_zero": self.n_lost,
            "zeros": self.n_zero,
            "not_finite": self.n_bad,
        }


@dataclass(frozen=True, slots=True)
class TensorError:
    """The error of one tensor, or of all tensors of one kind; `before` and `after` are types."""

    name: str
    before: str
    after: str
    error: ErrorSums


@dataclass(frozen=True, slots=True)
class Diff:
    """Two files compared: `tensors` that both have; `only` names those that one of them lacks."""

    tensors: tuple[TensorError, ...]
    only: tuple[str, ...]

    @property
    def total(self) -> ErrorSums:
        """Return the error over the tensors that changed, or over all if none did.

        Unchanged tensors would hide the error: rope_freqs alone holds numbers of 1e30.
        """
        changed = [t.error for t in self.tensors if t.error.noise or t.before != t.after]
        return sum(changed or [t.error for t in self.tensors], ErrorSums())

    def group_by_kind(self) -> list[TensorError]:
        """Return the errors by kind of tensor, over all layers, the worst first.

        Kinds that did not change are left out.
        """
        sums: dict[tuple[str, str, str], ErrorSums] = {}
        for t in self.tensors:
            key = (drop_layer(t.name), t.before, t.after)
            sums[key] = sums.get(key, ErrorSums()) + t.error
        rows = [
            TensorError(*key, error) for key, error in sums.items() if error.noise or error.n_bad
        ]
        return sorted(rows, key=lambda row: row.error.snr_db)

    def as_json(self) -> dict[str, Any]:
        """Return the measures for scripts, tensor by tensor."""
        return {
            "total": self.total.as_json(),
            "only_in_one": list(self.only),
            "tensors": [
                {"name": t.name, "before": t.before, "after": t.after, **t.error.as_json()}
                for t in self.tensors
            ],
        }


def measure_error(before: NDArray[np.float32], after: NDArray[np.float32]) -> ErrorSums:
    """Return the error of `after` against `before`; same shapes."""
    a, b = before.reshape(-1).astype(np.float64), after.reshape(-1).astype(np.float64)
    good = np.isfinite(a) & np.isfinite(b)
    n_bad = len(a) - int(np.count_nonzero(good))
    if n_bad:
        a, b = a[good], b[good]
    gap = b - a
    zero = b == 0
    return ErrorSums(
        n=len(a),
        signal=float(np.add.reduce(a * a)),
        result=float(np.add.reduce(b * b)),
        noise=float(np.add.reduce(gap * gap)),
        product=float(np.add.reduce(a * b)),
        largest=float(np.abs(gap).max(initial=0)),
        n_lost=int(np.count_nonzero(zero & (a != 0))),
        n_zero=int(np.count_nonzero(zero)),
        n_bad=n_bad,
    )


def diff_files(
    before: Path, after: Path, *, progress: Progress = no_progress, threads: int | None = None
) -> Diff:
    """Return the error of the weights in `after` against those in `before`, tensor by tensor.

    The files may be of any types that ggml decodes, or SFP8 archives; blocks are read and decoded
    on all cores. Raises BadFile if a tensor's shapes differ, BadGGUF, FileMissing.
    """
    first, second = open_source(before), open_source(after)
    shared = [name for name in first.tensors if name in second.tensors]
    if not shared:
        raise BadFile(
            f"{before} and {after} have no tensor in common",
            hint=f"g4 show {shell_word(after)} --tensors",
        )
    for name in shared:
        a, b = first.tensors[name].shape, second.tensors[name].shape
        if a != b:
            raise BadFile(
                f"{name} is {list(a)} in {before} and {list(b)} in {after}: not the same model"
            )
    readers = Reader(first), Reader(second)
    total, done, rows = sum(prod(first.tensors[n].shape) for n in shared), 0, []
    with ThreadPoolExecutor(threads or count_threads()) as pool:
        for name in shared:
            error = ErrorSums()
            for part in _measure_blocks(pool, name, readers, threads or count_threads()):
                error += part
                done += part.n + part.n_bad
                progress(done, total, name)
            old_type, new_type = (
                "SFP8" if name in s.coded else s.tensors[name].type.name for s in (first, second)
            )
            rows.append(TensorError(name, old_type, new_type, error))
    only = [n for n in (*first.tensors, *second.tensors) if n not in shared]
    return Diff(tuple(rows), tuple(only))


def _measure_blocks(
    pool: ThreadPoolExecutor, name: str, readers: Sequence[Reader], threads: int
) -> Iterator[ErrorSums]:
    """Yield the errors of a tensor's blocks; both files are read in the same blocks."""
    pairs = zip(*(reader.decode_rows(name)() for reader in readers), strict=True)
    # 16 blocks per thread between two reports of progress: a choice.
    while chunk := list(islice(pairs, 16 * threads)):
        yield sum(pool.map(_error_of_blocks, chunk), ErrorSums())


def _error_of_blocks(blocks: Iterable[Block]) -> ErrorSums:
    before, after = (as_float32(block.read()) for block in blocks)
    return measure_error(before, after)
