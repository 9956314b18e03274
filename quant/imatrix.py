"""Importance matrices of llama-imatrix, in both formats, as one weight per column.

    .dat   i32 n; per entry: i32 length, name, i32 calls, i32 count, f32 values[count], which are
           the means times `calls`; then i32 chunks, i32 length, name of the text
    GGUF   per tensor NAME.in_sum2 f32 [columns, experts], NAME.counts f32 [1, experts];
           keys imatrix.* (activation_sums.py)

Source: common/imatrix-loader.cpp and tools/quantize/quantize.cpp `load_imatrix`,
llama.cpp@0c1e57098.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.errors import BadFile
from g4cli.core.files import open_file, require_file
from g4cli.core.gguf import read_header
from g4cli.core.gguf_cursor import MAGIC
from g4cli.core.gguf_values import Value, string_value, uint32_value
from g4cli.quant.activation_sums import CHUNK_COUNT, HOW_TO_MAKE, read_sums
from g4cli.quant.mixtures import category_of

_I32: Final = struct.Struct("<i")
# The longest text of a .dat file, a choice: tensor names have up to 63 bytes, paths rarely 1 KiB.
_MAX_TEXT_BYTES: Final = 1024
_MAX_VALUES: Final = 1 << 26  # of a tensor, a choice: 26B has 360,000 for all experts of a layer
# llama.cpp keeps 127 bytes of a text in a key override (llama_model_kv_override, llama.h).
_KEY_TEXT_BYTES: Final = 127


@dataclass(frozen=True, slots=True)
class ImportanceMatrix:
    """An importance matrix: `weights[name]` holds one float32 per column, the mean of its squares.

    For a tensor of experts the columns of each expert follow one another. `datasets` are the names
    of the texts that it was made with, `n_chunks` the pieces of them, 0 if the file does not say.
    """

    path: Path
    weights: Mapping[str, NDArray[np.float32]]
    datasets: tuple[str, ...]
    n_chunks: int

    def provenance_keys(self) -> dict[str, Value]:
        """Return the keys that llama-quantize records, in its order."""
        keys = {"quantize.imatrix.file": string_value(_truncate_text(str(self.path)))}
        if self.datasets:
            keys["quantize.imatrix.dataset"] = string_value(_truncate_text(self.datasets[0]))
        keys["quantize.imatrix.entries_count"] = uint32_value(len(self.weights))
        if self.n_chunks > 0:
            keys["quantize.imatrix.chunks_count"] = uint32_value(self.n_chunks)
        return keys


def read_imatrix(path: Path) -> ImportanceMatrix:
    """Return the importance matrix at `path`, in either format.

    Raises FileMissing, BadGGUF or BadFile.
    """
    with open_file(require_file(path)) as file:
        is_gguf = file.read(len(MAGIC)) == MAGIC
        file.seek(0)
        matrix = _read_gguf(path) if is_gguf else _read_dat(path, file)
    for name, values in matrix.weights.items():
        if not np.isfinite(values).all():
            raise BadFile(
                f"{path}: the entry {name} holds NaN or infinite values", hint=HOW_TO_MAKE
            )
    return matrix


def check_fits(
    matrix: ImportanceMatrix, shapes: Mapping[str, Sequence[int]]
) -> dict[str, NDArray[np.float32]]:
    """Return the weights to use, by tensor name, for a model with tensors of `shapes`.

    Raises BadFile if the matrix was made from another model. As in llama.cpp an entry for an
    embedding table is left out where its length differs.
    """
    fitting = {}
    for name, values in matrix.weights.items():
        is_table = category_of(name) in ("token_embd", "output")
        shape = shapes.get(name)
        n = shape[0] * prod(shape[2:]) if shape else 0  # columns, for each expert
        if n == len(values):
            fitting[name] = values
        elif not is_table:
            why = f"{len(values)} columns for {n}" if shape else "there is no such tensor"
            raise BadFile(
                f"{matrix.path} was made from another model: {name}: {why}",
                hint="leave out --imatrix",
            )
    if not fitting:
        raise BadFile(f"{matrix.path} has no entry for this model", hint="leave out --imatrix")
    return fitting


def _read_gguf(path: Path) -> ImportanceMatrix:
    sums = read_sums(path)
    weights = {}
    for name, matrix in sums.matrices.items():
        n_rows = matrix.counts.astype(np.float32)[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            # For an expert to which no row was routed, all columns have the same weight.
            means = np.where(n_rows > 0, matrix.sums / n_rows, np.float32(1))
        weights[name] = means.astype(np.float32).reshape(-1)
    n_chunks = read_header(path).get(CHUNK_COUNT, int, 0)
    return ImportanceMatrix(path, weights, sums.datasets, n_chunks)


class _DatCursor:
    """An open .dat file of which `n_left` bytes are unread; every length is checked."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file, self.n_left = path, file, os.fstat(file.fileno()).st_size

    def take_bytes(self, n: int, what: str) -> bytes:
        """Return the next `n` bytes; `what` names them in errors."""
        at, n_left = self._file.tell(), self.n_left
        data = self._file.read(n) if 0 <= n <= n_left else b""
        if len(data) != n:
            raise BadFile(
                f"{self._path} is not an importance matrix: {what} at byte {at} claims "
                f"{n:,} bytes, {n_left:,} are left"
            )
        self.n_left -= n
        return data

    def take_int(self, what: str) -> int:
        """Return the next i32."""
        return int(_I32.unpack(self.take_bytes(_I32.size, what))[0])

    def take_text(self, what: str) -> str:
        """Return the next string."""
        length = self.take_int(what)
        if length > _MAX_TEXT_BYTES:
            raise BadFile(f"{self._path} is not an importance matrix", hint=HOW_TO_MAKE)
        return self.take_bytes(length, what).decode("utf-8", "replace")


def _read_dat(path: Path, file: BinaryIO) -> ImportanceMatrix:
    data = _DatCursor(path, file)
    n_entries = data.take_int("the number of entries")
    if n_entries < 1:
        raise BadFile(f"{path} is not an importance matrix: it claims {n_entries} entries")
    weights: dict[str, NDArray[np.float32]] = {}
    for _ in range(n_entries):
        name = data.take_text("a name")
        calls, count = data.take_int(f"the calls of {name}"), data.take_int(f"the length of {name}")
        if not 1 <= count <= _MAX_VALUES:
            raise BadFile(f"{path} is not an importance matrix: {name!r} has {count} values")
        values = np.frombuffer(data.take_bytes(4 * count, f"the values of {name}"), "<f4")
        weights[name] = values / np.float32(calls) if calls > 0 else values
    # The first llama-imatrix ended its files here.
    n_chunks = data.take_int("the number of chunks") if data.n_left else 0
    datasets = (data.take_text("the data set"),) if data.n_left else ()
    return ImportanceMatrix(path, weights, datasets, n_chunks)


def _truncate_text(text: str) -> str:
    """Return as much of `text` as llama.cpp would record, without half a character at its end."""
    return text.encode("utf-8", "replace")[:_KEY_TEXT_BYTES].decode("utf-8", "ignore")
