"""Write a GGUF in one pass: the header first (all sizes are known), then each tensor's bytes in order."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from g4cli.core.errors import BadGGUF
from g4cli.core.files import atomic_file
from g4cli.core.ggml import GGMLType
from g4cli.core.gguf import read_header
from g4cli.core.gguf_cursor import DEFAULT_ALIGNMENT, MAGIC
from g4cli.core.gguf_values import U32, U64, Value, encode_string
from g4cli.core.progress import Progress, no_progress

_HASHED_BESIDE: Final = (
    1 << 18
)  # bytes; below, handing over to another thread costs more than it saves
_TOLD_EACH: Final = 1 << 23  # bytes; between these the end of a tensor is told
_FLUSHED_EACH: Final = 1 << 28  # bytes; what is on the disk early need not be waited for in the end


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor to come; `shape[0]` is the row length."""

    name: str
    type: GGMLType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Return the bytes of the tensor's data, padding not counted."""
        return self.type.tensor_bytes(self.shape)


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file: its place, size and hash (computed while writing; "" where nobody wanted it)."""

    path: Path
    nbytes: int
    sha256: str


def encode_header(keys: Mapping[str, Value], tensors: Sequence[TensorSpec]) -> bytes:
    """Return the bytes before the data, padded. Tensors are laid out in the order given."""
    alignment = _alignment_of(keys)
    parts = [MAGIC, U32.pack(3), U64.pack(len(tensors)), U64.pack(len(keys))]
    for name, value in keys.items():
        parts += (encode_string(name), U32.pack(value.type), value.encode())
    offset = 0
    for tensor in tensors:
        parts += (encode_string(tensor.name), U32.pack(len(tensor.shape)))
        parts += [U64.pack(extent) for extent in tensor.shape]
        parts += (U32.pack(tensor.type.id), U64.pack(offset))
        offset = _pad_to(offset + tensor.nbytes, alignment)
    header = b"".join(parts)
    return header.ljust(_pad_to(len(header), alignment), b"\0")


class GGUFWriter:
    """Takes the bytes of the announced tensors, in order, in pieces of any size."""

    def __init__(
        self,
        file: BinaryIO,
        path: Path,
        keys: Mapping[str, Value],
        tensors: Sequence[TensorSpec],
        progress: Progress,
        hashed: bool,
    ) -> None:
        self._file, self._path, self._tensors, self._progress = file, path, list(tensors), progress
        self._alignment = _alignment_of(keys)
        self._hash = hashlib.sha256() if hashed else None
        self._beside = ThreadPoolExecutor(2, thread_name_prefix="hash or flush")
        self._flushing: Future[None] | None = None
        self._flushed = self._told = 0
        self._index = 0
        self._left = tensors[0].nbytes if tensors else 0
        header = encode_header(keys, tensors)
        self._header_bytes = len(header)
        self.nbytes = 0
        self.total = len(header) + sum(_pad_to(t.nbytes, self._alignment) for t in tensors)
        self._append_bytes(header)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data` to the current tensor; its end starts the next. Raises ValueError on too many."""
        view = memoryview(data).cast("B")
        if self._index == len(self._tensors) or len(view) > self._left:
            raise ValueError(
                f"{self._path}: more bytes than tensor {self._index} was announced with"
            )
        self._append_bytes(view)
        self._left -= len(view)
        name = self._tensors[self._index].name
        if not self._left:
            self._append_bytes(bytes(-self.nbytes % self._alignment))
            self._index += 1
            if self._index < len(self._tensors):
                self._left = self._tensors[self._index].nbytes
        elif self.nbytes - self._told < _TOLD_EACH:
            return
        self._told = self.nbytes
        self._progress(self.nbytes, self.total, name)

    def change_keys(self, keys: Mapping[str, Value]) -> None:
        """Write the header again, for values that are known only now; its size must stay.

        Raises ValueError if it does not, or if the file is hashed while it is written: its header came first.
        """
        header = encode_header(keys, self._tensors)
        if self._hash is not None or len(header) != self._header_bytes:
            raise ValueError(f"{self._path}: the header cannot be changed any more")
        self._file.seek(0)
        self._file.write(header)
        self._file.seek(self.nbytes)

    def finish(self) -> Written:
        """Return what was written. Raises ValueError if a tensor is missing or short."""
        if self._index != len(self._tensors):
            raise ValueError(
                f"{self._path}: tensor {self._tensors[self._index].name} is incomplete"
            )
        if self._flushing is not None:
            self._flushing.result()
        return Written(self._path, self.nbytes, self._hash.hexdigest() if self._hash else "")

    def close(self) -> None:
        """Stop the threads."""
        self._beside.shutdown()

    def _append_bytes(self, data: bytes | memoryview) -> None:
        self._write_hashed(data)
        self.nbytes += len(data)
        if self.nbytes - self._flushed >= _FLUSHED_EACH and (
            self._flushing is None or self._flushing.done()
        ):
            if self._flushing is not None:
                self._flushing.result()  # a failure is told once, and only here
            self._flushed = self.nbytes
            self._flushing = self._beside.submit(os.fsync, self._file.fileno())

    def _write_hashed(self, data: bytes | memoryview) -> None:
        if self._hash is None:
            self._file.write(data)
        elif len(data) < _HASHED_BESIDE:
            self._hash.update(data)
            self._file.write(data)
        else:  # both let go of the interpreter: the disk does not wait for the hash
            hashed = self._beside.submit(self._hash.update, data)
            self._file.write(data)
            hashed.result()


@contextmanager
def create_gguf(
    path: Path,
    keys: Mapping[str, Value],
    tensors: Sequence[TensorSpec],
    *,
    progress: Progress = no_progress,
    hashed: bool = True,
) -> Iterator[GGUFWriter]:
    """Yield a writer for a new file at `path` that gets its name only when the block ends well.

    Space is checked before the first byte. On any exception nothing is left behind. The caller ends with
    `written = writer.finish()`; without `hashed` it has no hash, and its keys may change until then.
    """
    alignment = _alignment_of(keys)
    expected = len(encode_header(keys, tensors)) + sum(
        _pad_to(t.nbytes, alignment) for t in tensors
    )
    with atomic_file(path, expected_bytes=expected) as file:
        writer = GGUFWriter(file, path, keys, tensors, progress, hashed)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


def verify_written(written: Written, tensors: Sequence[TensorSpec]) -> None:
    """Read the header back and raise BadGGUF unless every tensor is where and what it was announced."""
    header = read_header(written.path)
    if [(t.name, t.type, t.shape) for t in tensors] != [
        (t.name, t.type, t.shape) for t in header.tensors.values()
    ]:
        raise BadGGUF(written.path, "the file read back differs from what was written")
    if header.file_size != written.nbytes:
        raise BadGGUF(
            written.path, f"{header.file_size} bytes on disk, {written.nbytes} were written"
        )


def _alignment_of(keys: Mapping[str, Value]) -> int:
    value = keys.get("general.alignment")
    return (
        int(value.data) if value is not None and isinstance(value.data, int) else DEFAULT_ALIGNMENT
    )


def _pad_to(n: int, alignment: int) -> int:
    return -(-n // alignment) * alignment
