"""The two kinds of files of saved states.

    NAME.state   magic, length of the header, digest of the header, header (JSON), rest
    NAME.block   the rows of a block; its name is the digest of its bytes

`rows` says what tables, blocks and the rest of a state are.

Both are written to a temporary file, flushed and renamed, readable by their owner alone. Whatever
is read is checked before it is used: whose file it is, sizes before anything is allocated, then the
digest of every byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from g4cli.core.files import atomic_file
from g4cli.store.states.rows import Data, Table, Tables, fill_block, fill_rest

STATE_SUFFIX: Final = ".state"
BLOCK_SUFFIX: Final = ".block"
_MAGIC: Final = b"g4state1"
_LENGTH: Final = struct.Struct("<I")
_DIGEST_BYTES: Final = 24  # 192 bits: no two blocks have one digest, by chance or on purpose
_START_BYTES: Final = len(_MAGIC) + _LENGTH.size + _DIGEST_BYTES
# Choices that bound time and memory. A context of 262,144 tokens has 1,024 blocks, whose digests
# take 52 KB; a model of 60 layers has 120 tables.
_MAX_HEADER_BYTES: Final = 8 << 20
_MAX_TABLES: Final = 4096
_MAX_COUNT: Final = 1 << 48
_HEX_DIGITS: Final = frozenset("0123456789abcdef")


class DamagedStateError(Exception):
    """A file is not what was written, or not this user's own."""


@dataclass(frozen=True, slots=True)
class StateHeader:
    """What a state file says: how many tokens it holds, its tables, and the digests of its parts.

    The parts are its blocks, which are files of their own, and its rest (see rows.py).
    """

    n_tokens: int
    tables: Tables
    block_digests: tuple[str, ...]
    rest_digest: str


def digest_bytes(data: Data) -> str:
    """Return the digest of a block or rest, 48 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def write_block(folder: Path, digest: str, block: Data) -> Path:
    """Write a block with that digest. Raises OSError or what `atomic_file` raises."""
    path = folder / f"{digest}{BLOCK_SUFFIX}"
    with atomic_file(path, mode=0o600) as file:
        file.write(block)
    return path


def write_state(path: Path, header: StateHeader, rest: Data) -> None:
    """Write a state file, after its blocks. Raises OSError or what `atomic_file` raises."""
    text = json.dumps(_header_to_json(header), separators=(",", ":")).encode()
    digest = hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()
    with atomic_file(path, mode=0o600) as file:
        file.write(_MAGIC + _LENGTH.pack(len(text)) + digest + text)
        file.write(rest)


def read_header(path: Path) -> StateHeader:
    """Return the header of a state file. Raises DamagedStateError or OSError."""
    with _open_own(path) as (file, n_bytes):
        return _read_header(file, n_bytes)


def read_state(path: Path, allocate: Callable[[int], memoryview]) -> tuple[StateHeader, memoryview]:
    """Return a state file's header and its state, which is put into what `allocate` returns.

    `allocate` takes the size in bytes. Raises DamagedStateError or OSError (FileNotFoundError: the
    state, or a block of it, was removed).
    """
    with _open_own(path) as (file, n_bytes):
        header = _read_header(file, n_bytes)
        tables = header.tables
        folder = path.parent
        paths = [folder / f"{digest}{BLOCK_SUFFIX}" for digest in header.block_digests]
        if any(os.stat(block).st_size != tables.block_bytes for block in paths):
            raise DamagedStateError("a block has another size")
        state = allocate(tables.n_bytes)
        rest = _read_exactly(file, tables.rest_bytes, header.rest_digest)
    fill_rest(state, tables, rest)
    for index, (block, digest) in enumerate(zip(paths, header.block_digests, strict=True)):
        with _open_own(block) as (file, n_bytes):
            if n_bytes != tables.block_bytes:
                raise DamagedStateError("a block has another size")
            fill_block(state, tables, index, _read_exactly(file, n_bytes, digest))
    return header, state


def _read_exactly(file: BinaryIO, n_bytes: int, digest: str) -> bytes:
    data = file.read(n_bytes)
    if len(data) != n_bytes or digest_bytes(data) != digest:
        raise DamagedStateError("its bytes are not those that were written")
    return data


@contextmanager
def _open_own(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Yield a regular file of this user that nobody else may write, and its size."""
    # Without O_NONBLOCK a pipe in its place would hang.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        is_own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not is_own or status.st_mode & 0o022:  # its group or everyone may write it
            raise DamagedStateError("it is not a file of this user alone")
        yield file, status.st_size


def _read_header(file: BinaryIO, n_bytes: int) -> StateHeader:
    start = file.read(_START_BYTES)
    if len(start) != _START_BYTES or not start.startswith(_MAGIC):
        raise DamagedStateError("it is no saved state")
    (length,) = _LENGTH.unpack_from(start, len(_MAGIC))
    if length > min(_MAX_HEADER_BYTES, n_bytes - _START_BYTES):
        raise DamagedStateError("its header is longer than the file")
    text = file.read(length)
    digest = hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()
    if digest != start[-_DIGEST_BYTES:]:
        raise DamagedStateError("its header is damaged")
    try:
        header = _header_from_json(json.loads(text))
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise DamagedStateError("its header has another form") from err
    if _START_BYTES + length + header.tables.rest_bytes != n_bytes:
        raise DamagedStateError("it has another size than its header says")
    return header


def _header_to_json(header: StateHeader) -> dict[str, Any]:
    tables = header.tables
    return {
        "n_tokens": header.n_tokens,
        "bytes": tables.n_bytes,
        "tables": [[table.inline_bytes, table.row_bytes] for table in tables.tables],
        "blocks": list(header.block_digests),
        "rest": header.rest_digest,
    }


def _header_from_json(data: Any) -> StateHeader:
    """Return a header. Raises ValueError, KeyError or TypeError."""
    blocks = tuple(_check_digest(digest) for digest in data["blocks"])
    rows = data["tables"]
    if len(rows) > _MAX_TABLES:
        raise ValueError("too many tables")
    tables = Tables(
        _check_count(data["bytes"]),
        tuple(Table(_check_count(inline), _check_count(row)) for inline, row in rows),
        len(blocks),
    )
    if not tables.is_possible():
        raise ValueError("the tables do not fit")
    return StateHeader(_check_count(data["n_tokens"]), tables, blocks, _check_digest(data["rest"]))


def _check_count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MAX_COUNT:
        raise ValueError("not a count")
    return value


def _check_digest(value: Any) -> str:
    # A digest becomes part of a file name.
    if not isinstance(value, str) or len(value) != 2 * _DIGEST_BYTES or not {*value} <= _HEX_DIGITS:
        raise ValueError("not a digest")
    return value
