"""Write a GGUF in one pass: the header first, then the data of each tensor in order.

The header needs only names, types and shapes, so that tensors can be computed while the file is
written, and a file of any size takes constant memory.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from g4cli.core.errors import BadGGUF
from g4cli.core.files import atomic_file
from g4cli.core.ggml import round_up
from g4cli.core.gguf import parse_header
from g4cli.core.gguf_cursor import DEFAULT_ALIGNMENT, MAGIC
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.gguf_values import U32, U64, Value, encode_string, find_data
from g4cli.core.progress import Progress, no_progress

_VERSION: Final = 3  # of the format
# Pieces of at least this size are hashed in another thread; for smaller ones that takes longer.
_HASH_THREAD_BYTES: Final = 1 << 18
# Progress is reported after this many bytes (a choice), and at the end of each tensor.
REPORT_BYTES: Final = 1 << 23
# The file is flushed after this many bytes (a choice: a quarter of a second of a fast disk), so
# that the last flush does not wait for all of them.
FLUSH_BYTES: Final = 1 << 28


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file. `sha256` was computed while writing; "" if it was not requested."""

    path: Path
    nbytes: int
    sha256: str


def encode_header(keys: Mapping[str, Value], tensors: Sequence[TensorSpec]) -> bytes:
    """Return the bytes before the data, with padding; the data follow in the order given."""
    alignment = _alignment_of(keys)
    parts = [MAGIC, U32.pack(_VERSION), U64.pack(len(tensors)), U64.pack(len(keys))]
    for name, value in keys.items():
        parts += (encode_string(name), U32.pack(value.type), value.encode())
    offset = 0
    for tensor in tensors:
        parts += (encode_string(tensor.name), U32.pack(len(tensor.shape)))
        parts += [U64.pack(extent) for extent in tensor.shape]
        parts += (U32.pack(tensor.type.id), U64.pack(offset))
        offset = round_up(offset + tensor.nbytes, alignment)
    header = b"".join(parts)
    return header.ljust(round_up(len(header), alignment), b"\0")


class GGUFWriter:
    """Writes the data of the tensors of a header, in order, in pieces of any size.

    `nbytes` of `total` are written: header, data and padding. Two of the `threads` are used, one to
    hash and one to flush.
    """

    def __init__(
        self,
        file: BinaryIO,
        path: Path,
        header: bytes,
        alignment: int,
        tensors: Sequence[TensorSpec],
        total: int,
        threads: ThreadPoolExecutor,
        progress: Progress,
        hashed: bool,
    ) -> None:
        self._file, self._path, self._tensors, self._progress = file, path, list(tensors), progress
        self._alignment, self._threads = alignment, threads
        self._hash = hashlib.sha256() if hashed else None
        self._flushing: Future[None] | None = None
        self._flushed = self._reported = 0
        self._index = 0
        self._left = tensors[0].nbytes if tensors else 0
        self._header_bytes = len(header)
        self.nbytes, self.total = 0, total
        self._append_bytes(header)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data` to the current tensor; the next one starts when it is complete.

        Raises ValueError if the tensor has fewer bytes left.
        """
        view = memoryview(data).cast("B")
        if self._index == len(self._tensors) or len(view) > self._left:
            raise ValueError(f"{self._path}: more bytes than tensor {self._index} has")
        self._append_bytes(view)
        self._left -= len(view)
        name = self._tensors[self._index].name
        if not self._left:
            self._append_bytes(bytes(-self.nbytes % self._alignment))
            self._index += 1
            if self._index < len(self._tensors):
                self._left = self._tensors[self._index].nbytes
        elif self.nbytes - self._reported < REPORT_BYTES:
            return
        self._reported = self.nbytes
        self._progress(self.nbytes, self.total, name)

    def change_keys(self, keys: Mapping[str, Value]) -> None:
        """Replace the header, for values that are known only after the data.

        Raises ValueError if its size changes, or if the file is hashed while it is written, because
        the hash already includes the first header.
        """
        header = encode_header(keys, self._tensors)
        if self._hash is not None or len(header) != self._header_bytes:
            raise ValueError(f"{self._path}: the header can no longer be changed")
        self._file.seek(0)
        self._file.write(header)
        self._file.seek(self.nbytes)

    def finish(self) -> Written:
        """Return what was written. Raises ValueError if the data of a tensor is missing."""
        if self._index != len(self._tensors):
            raise ValueError(
                f"{self._path}: tensor {self._tensors[self._index].name} is incomplete"
            )
        if self._flushing is not None:
            self._flushing.result()
        return Written(self._path, self.nbytes, self._hash.hexdigest() if self._hash else "")

    def _append_bytes(self, data: bytes | memoryview) -> None:
        self._write_hashed(data)
        self.nbytes += len(data)
        if self.nbytes - self._flushed >= FLUSH_BYTES and (
            self._flushing is None or self._flushing.done()
        ):
            if self._flushing is not None:
                self._flushing.result()  # raises its error, which would be lost otherwise
            self._flushed = self.nbytes
            self._flushing = self._threads.submit(os.fsync, self._file.fileno())

    def _write_hashed(self, data: bytes | memoryview) -> None:
        if self._hash is None:
            self._file.write(data)
        elif len(data) < _HASH_THREAD_BYTES:
            self._hash.update(data)
            self._file.write(data)
        else:
            # Both release the interpreter lock, so that hash and disk run at the same time.
            hashed = self._threads.submit(self._hash.update, data)
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
    """Yield a writer for a new file, which becomes `path` if the block ends without error.

    Raises NoSpace before the first byte, and BadGGUF at the end if the header read back is not what
    was written. After an exception no file is left. The caller ends with
    `written = writer.finish()`; without `hashed` its `sha256` is "", and keys may change before.
    """
    header, alignment = encode_header(keys, tensors), _alignment_of(keys)
    total = len(header) + sum(round_up(t.nbytes, alignment) for t in tensors)
    with atomic_file(path, expected_bytes=total) as file, ThreadPoolExecutor(2) as threads:
        writer = GGUFWriter(
            file, path, header, alignment, tensors, total, threads, progress, hashed
        )
        yield writer
        _verify_file(file, writer.finish(), tensors)


def _verify_file(file: BinaryIO, written: Written, tensors: Sequence[TensorSpec]) -> None:
    """Read the header back. Raises BadGGUF unless tensors and file size are as written."""
    file.flush()
    size = os.fstat(file.fileno()).st_size
    if size != written.nbytes:
        raise BadGGUF(written.path, f"{size} bytes on disk, {written.nbytes} were written")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
        header = parse_header(buffer, path=str(written.path), file_size=size)
    if [(t.name, t.type, t.shape) for t in tensors] != [
        (t.name, t.type, t.shape) for t in header.tensors.values()
    ]:
        raise BadGGUF(written.path, "the file read back differs from what was written")


def _alignment_of(keys: Mapping[str, Value]) -> int:
    return find_data(keys, "general.alignment", int) or DEFAULT_ALIGNMENT
