"""Sums of squared activations, from which quantizers weigh errors: the GGUF form of llama-imatrix.

    keys      general.type "imatrix", imatrix.datasets, imatrix.chunk_count, imatrix.chunk_size
    tensors   by name: NAME.in_sum2 f32 [columns, experts], NAME.counts f32 [1, experts]

A *row* is here what one token gives to a matrix as input: an activation for each column. A chunk is
a piece of the text that is evaluated at once. The bytes are those that llama-imatrix writes for the
same sums. `quant.imatrix` reads such files as weights. Source: tools/imatrix/imatrix.cpp
(`save_imatrix`, `load_imatrix`), llama.cpp@0c1e57098.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import BadFile
from g4cli.core.files import open_file, require_file
from g4cli.core.ggml import F32
from g4cli.core.gguf import iter_tensor, read_header
from g4cli.core.gguf_cursor import MAGIC
from g4cli.core.gguf_header import Header, TensorSpec
from g4cli.core.gguf_values import Array, Value, ValueType, array_value, string_value, uint32_value
from g4cli.core.gguf_write import create_gguf
from g4cli.core.quoting import shell_command

HOW_TO_MAKE: Final = "g4 imatrix MODEL"
CHUNK_COUNT: Final = "imatrix.chunk_count"
_SUMS: Final = ".in_sum2"
_COUNTS: Final = ".counts"
# Rows that are squared together. 32 rows of 8,192 columns are 1 MiB, which a core's second-level
# cache holds.
_ROWS_AT_ONCE: Final = 32
_MAX_ROWS: Final = 1 << 40  # a choice, above any text; float32 rounds counts from 2^24 on
_UINT32_END: Final = 1 << 32


@dataclass(slots=True)
class MatrixSums:
    """The input of one matrix, or of the matrices of all experts.

    `sums` (experts, columns) float32 holds the sums of squares, `counts` (experts,) int64 how many
    rows went into each; a matrix that is no expert's has one row.
    """

    sums: NDArray[np.float32]
    counts: NDArray[np.int64]

    def add_rows(self, expert: int, rows: NDArray[np.float32]) -> None:
        """Add the squares of `rows` (rows, columns) to the sums of `expert`."""
        add_squares(self.sums[expert], rows)
        self.counts[expert] += len(rows)


@dataclass(slots=True)
class ActivationSums:
    """The sums of all matrices of a model, by tensor name.

    `chunk_size` is the number of tokens of a chunk, `datasets` are the names of the texts.
    """

    chunk_size: int
    datasets: tuple[str, ...] = ()
    matrices: dict[str, MatrixSums] = field(default_factory=dict)

    @property
    def n_chunks(self) -> int:
        """How many chunks went in, as llama-imatrix counts them: by the largest count."""
        largest = max((int(m.counts.max()) for m in self.matrices.values()), default=0)
        return largest // self.chunk_size

    @property
    def n_experts(self) -> int:
        """The number of expert matrices: experts times their tensors in all layers."""
        return sum(len(m.counts) for m in self.matrices.values() if len(m.counts) > 1)

    @property
    def n_unused_experts(self) -> int:
        """How many of the expert matrices no row was routed to."""
        return sum(int((m.counts == 0).sum()) for m in self.matrices.values() if len(m.counts) > 1)

    def find_matrix(self, name: str, n_experts: int, n_columns: int) -> MatrixSums:
        """Return the sums of the matrix `name`, new ones if it has none.

        Raises BadFile if those that were read from a file have another size.
        """
        matrix = self.matrices.get(name)
        if matrix is None:
            matrix = self.matrices[name] = MatrixSums(
                np.zeros((n_experts, n_columns), np.float32), np.zeros(n_experts, np.int64)
            )
        elif matrix.sums.shape != (n_experts, n_columns):
            raise BadFile(
                f"the sums of {name} were made from another model: they have "
                f"{matrix.sums.shape[1]:,} columns for {n_columns:,}",
                hint="leave out --in-file",
            )
        return matrix

    def add_file(self, other: ActivationSums, path: Path) -> None:
        """Add the sums that were read from `path`. Raises BadFile if it is of another model."""
        for name, matrix in other.matrices.items():
            own = self.matrices.get(name)
            if own is None:
                self.matrices[name] = matrix
            elif own.sums.shape != matrix.sums.shape:
                raise BadFile(
                    f"{path} was made from another model: {name} has {matrix.sums.shape[1]:,} "
                    f"columns for {own.sums.shape[1]:,}",
                    hint="leave it out",
                )
            else:
                own.sums += matrix.sums
                own.counts += matrix.counts
        self.datasets += other.datasets


def add_squares(total: NDArray[np.float32], rows: NDArray[np.float32]) -> None:
    """Add the squares of `rows` (rows, columns) to `total` (columns,), one row after another.

    Each square and each sum is rounded to float32, in the order of the rows, as llama-imatrix does
    it: the sums are the same bits.
    """
    scratch = np.empty((min(_ROWS_AT_ONCE, len(rows)) + 1, len(total)), np.float32)
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = rows[start : start + _ROWS_AT_ONCE]
        scratch[0] = total
        np.multiply(block, block, out=scratch[1 : len(block) + 1])
        # Along the first axis numpy adds whole rows in order; it pairs only within a row.
        np.add.reduce(scratch[: len(block) + 1], axis=0, out=total)


def merge_files(paths: Sequence[Path], chunk_size: int | None = None) -> ActivationSums:
    """Return the sums of all files at `paths`, added in that order.

    `chunk_size` None: that of the first file. Raises what read_sums raises, and BadFile if two
    files are of different models.
    """
    first = read_sums(paths[0])
    total = ActivationSums(chunk_size or first.chunk_size)
    for path in paths:
        total.add_file(first if path is paths[0] else read_sums(path), path)
    return total


def read_sums(path: Path) -> ActivationSums:
    """Return the sums in the GGUF file at `path`.

    Raises FileMissing, BadGGUF, or BadFile if it is no importance matrix, in the older .dat form
    (which has no sums, but means), or holds numbers that are no sums of squares.
    """
    with open_file(require_file(path)) as file:
        if file.read(4) != MAGIC:
            raise BadFile(
                f"{path} is not a GGUF; only importance matrices in GGUF form can be added up",
                hint=shell_command("llama-imatrix", "--in-file", path, "-o", "OUT.gguf"),
            )
    header = read_header(path)
    names = [name.removesuffix(_SUMS) for name in header.tensors if name.endswith(_SUMS)]
    value = header.keys.get("imatrix.datasets")
    datasets = value.data if value else None
    chunk_size = header.get("imatrix.chunk_size", int, 0)
    if (
        not names
        or not isinstance(datasets, Array)
        or datasets.item_type is not ValueType.STRING
        or not 0 < chunk_size < _UINT32_END
        or not 0 <= header.get(CHUNK_COUNT, int, 0) < _UINT32_END
    ):
        raise BadFile(f"{path} is a GGUF, but not an importance matrix", hint=HOW_TO_MAKE)
    return ActivationSums(
        chunk_size, tuple(datasets.tolist()), {name: _read_matrix(header, name) for name in names}
    )


def write_sums(
    path: Path, sums: ActivationSums, more_keys: Mapping[str, Value] | None = None
) -> None:
    """Write the file that llama-imatrix would write, with `more_keys` after its own."""
    keys: dict[str, Value] = {
        "general.type": string_value("imatrix"),
        "imatrix.datasets": array_value(ValueType.STRING, sums.datasets),
        CHUNK_COUNT: uint32_value(sums.n_chunks),
        "imatrix.chunk_size": uint32_value(sums.chunk_size),
        **(more_keys or {}),
    }
    names = sorted(sums.matrices)
    specs = []
    for name in names:
        n_experts, n_columns = sums.matrices[name].sums.shape
        experts = (n_experts,) if n_experts > 1 else ()
        specs.append(TensorSpec(name + _SUMS, F32, (n_columns, *experts)))
        specs.append(TensorSpec(name + _COUNTS, F32, (1, *experts)))
    with create_gguf(path, keys, specs, hashed=False) as writer:
        for name in names:
            matrix = sums.matrices[name]
            writer.write(np.ascontiguousarray(matrix.sums, "<f4").data)
            writer.write(matrix.counts.astype("<f4").data)


def _read_matrix(header: Header, name: str) -> MatrixSums:
    sums, counts = _read_floats(header, name + _SUMS), _read_floats(header, name + _COUNTS)
    if len(sums) % len(counts):
        raise BadFile(f"{header.path}: {name} has {len(sums)} sums for {len(counts)} counts")
    if not np.isfinite(sums).all() or not ((counts >= 0) & (counts <= _MAX_ROWS)).all():
        raise BadFile(f"{header.path}: {name} holds numbers that are no sums of squares")
    return MatrixSums(
        sums.reshape(len(counts), -1).copy(), np.rint(counts.astype(np.float64)).astype(np.int64)
    )


def _read_floats(header: Header, name: str) -> NDArray[np.float32]:
    """Return the values of the F32 tensor `name` as one vector.

    Raises BadFile if the file has no such tensor, or another type of it.
    """
    tensor = header.tensors.get(name)
    if tensor is None or tensor.type is not F32:
        raise BadFile(f"{header.path}: {name} is missing or not F32", hint=HOW_TO_MAKE)
    return np.frombuffer(b"".join(iter_tensor(header, tensor)), "<f4")
