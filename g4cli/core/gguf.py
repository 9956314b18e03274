"""Read a GGUF: the keys and the description of the tensors in its header, and their data.

Files are untrusted: every length is checked before it is used. Source of the format: docs/gguf.md
and ggml/src/gguf.cpp, ggml-org/llama.cpp@0c1e57098. This reader is stricter than both llama.cpp and
gguf-py where they accept what no program writes: see `gguf_cursor.Limits` and `_read_tensors`.

    header  = "GGUF" u32:version u64:n_tensors u64:n_kv kv* tensor* padding data
    kv      = string:key u32:type value
    string  = u64:length bytes
    array   = u32:item_type u64:count item*
    tensor  = string:name u32:n_dims u64:ne[n_dims] u32:ggml_type u64:offset (from start of data)
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from g4cli.core.errors import BadGGUF
from g4cli.core.files import open_file, require_file
from g4cli.core.ggml import BY_ID, round_up
from g4cli.core.gguf_cursor import DEFAULT_ALIGNMENT, MAGIC, Cursor, Limits
from g4cli.core.gguf_header import Header, TensorInfo
from g4cli.core.gguf_values import SCALARS, Array, Value, ValueType
from g4cli.core.other_files import HEAD_BYTES, not_a_gguf
from g4cli.core.quoting import shell_command
from g4cli.core.split_name import list_parts, parse_split_name
from g4cli.core.units import count_text

_PIECE_BYTES: Final = 1 << 24  # a choice: large enough to need few calls, small in memory


def read_header(path: Path | str, *, check_data: bool = True) -> Header:
    """Return the header of the file at `path`.

    With `check_data=False` the data of the tensors may be truncated, which a diagnosis reports
    itself. Raises FileMissing, UsageError for a directory, or BadGGUF.
    """
    path = require_file(Path(path))
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise not_a_gguf(b"", path)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            return parse_header(buffer, path=str(path), file_size=size, check_data=check_data)


def read_model_header(path: Path) -> Header:
    """Return the header of the model at `path`; that of a split one has the tensors of all parts.

    `path` is that of the first part, from which llama.cpp loads the others. A tensor's offset
    counts in its own part. Raises what read_header raises, for each part.
    """
    header = read_header(path)
    split = parse_split_name(path.name) if path.suffix == ".gguf" else None
    # A file may have such a name without being split.
    if split is None or split.number != 1 or "split.count" not in header.keys:
        return header
    tensors = dict(header.tensors)
    for part in islice(list_parts(path.name), 1, None):
        tensors |= read_header(path.with_name(part)).tensors
    return replace(header, tensors=MappingProxyType(tensors))


def parse_header(
    buffer: Any,
    *,
    path: str,
    file_size: int,
    check_data: bool = True,
    load: Callable[[int, int], bytes] | None = None,
    cursor: Cursor | None = None,
) -> Header:
    """Return the header held by `buffer` (bytes or mmap: the first bytes of a file of `file_size`).

    Raises HeaderIncomplete if the header is longer than `buffer`, BadGGUF for every fault.
    `load(offset, n)` gives the bytes of arrays, which are read when they are needed; by default the
    file at `path` is opened again.
    A `cursor` is passed where only pieces of the header are present (gguf_pieces.py).
    """
    cursor = cursor or Cursor(buffer, path, file_size)
    version, n_tensors, n_kv = _read_preamble(cursor)
    loader = load or _file_loader(path)
    keys: dict[str, Value] = {}
    key_offsets: dict[str, int] = {}
    for _ in range(n_kv):
        start = cursor.pos
        key = cursor.read_name(Limits.KEY_BYTES, "a key")
        if not key:
            raise cursor.fault_at("the key is empty", start)
        if key in keys:
            raise cursor.fault_at("the key appears twice", start, key)
        key_offsets[key] = start
        keys[key] = _read_value(cursor, key, loader)
    alignment = _read_alignment(keys, cursor, key_offsets)
    tensors = _read_tensors(cursor, n_tensors, alignment)
    data_offset = round_up(cursor.pos, alignment)
    header = Header(
        path,
        version,
        alignment,
        MappingProxyType(keys),
        MappingProxyType(tensors),
        data_offset,
        file_size,
        MappingProxyType(key_offsets),
    )
    if check_data and header.data_end > file_size:
        missing = header.data_end - file_size
        last = next(t for t in tensors.values() if data_offset + t.offset + t.nbytes > file_size)
        raise BadGGUF(
            path,
            f"truncated: the last {count_text(missing, 'byte', 'are')} missing",
            offset=file_size,
            field=last.name,
            hint=f"download it again, or {shell_command('g4', 'doctor', path)}",
        )
    return header


def iter_tensor(
    header: Header, tensor: TensorInfo, piece_bytes: int = _PIECE_BYTES
) -> Iterator[bytes]:
    """Yield the bytes of `tensor` in order, in pieces of whole rows of at most about `piece_bytes`.

    Raises BadGGUF if the file ends before the tensor does.
    """
    row = tensor.type.row_bytes(tensor.shape[0])
    step = max(1, piece_bytes // row) * row
    with open_file(header.path) as file:
        file.seek(header.file_offset(tensor))
        left = tensor.nbytes
        while left:
            data = file.read(min(step, left))
            # A short read would end inside a row.
            if len(data) < min(step, left):
                raise BadGGUF(header.path, "truncated", offset=file.tell(), field=tensor.name)
            left -= len(data)
            yield data


def _read_preamble(cursor: Cursor) -> tuple[int, int, int]:
    """Return the version and the numbers of tensors and of keys."""
    magic = bytes(cursor.buffer[:4])
    if magic != MAGIC:
        raise not_a_gguf(bytes(cursor.buffer[:HEAD_BYTES]), cursor.path)
    cursor.pos = 4
    version = cursor.read_u32("the version")
    if version not in Limits.VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        why = (
            "big-endian files are for other machines"
            if swapped in Limits.VERSIONS
            else "2 and 3 are known"
        )
        raise cursor.fault_at(f"version {version} is not supported ({why})", 4, "version")
    n_tensors, n_kv = cursor.read_u64("the tensor count"), cursor.read_u64("the key count")
    for count, limit, offset, name in (
        (n_tensors, Limits.TENSORS, 8, "n_tensors"),
        (n_kv, Limits.KEYS, 16, "n_kv"),
    ):
        if count > limit:
            raise cursor.fault_at(f"claims {count:,}, more than {limit:,}", offset, name)
    return version, n_tensors, n_kv


def _value_type(cursor: Cursor, key: str) -> ValueType:
    number = cursor.read_u32(f"the type of {key}")
    try:
        return ValueType(number)
    except ValueError:
        raise cursor.fault_at(f"unknown value type {number}", cursor.pos - 4, key) from None


def _read_value(cursor: Cursor, key: str, load: Callable[[int, int], bytes]) -> Value:
    kind = _value_type(cursor, key)
    if kind is ValueType.STRING:
        return Value(kind, cursor.read_text(Limits.STRING_BYTES, key))
    if kind is not ValueType.ARRAY:
        codec = SCALARS[kind]
        cursor.require_bytes(codec.size, key)
        (data,) = codec.unpack_from(cursor.buffer, cursor.pos)
        if kind is ValueType.BOOL and cursor.buffer[cursor.pos] > 1:
            raise cursor.fault_at("a bool is neither 0 nor 1", name=key)
        cursor.pos += codec.size
        return Value(kind, data)
    item = _value_type(cursor, key)
    if item is ValueType.ARRAY:
        raise cursor.fault_at("nested arrays are not allowed", cursor.pos - 4, key)
    at = cursor.pos
    count = cursor.read_u64(f"the length of {key}")
    item_bytes = 8 if item is ValueType.STRING else SCALARS[item].size
    # Checked before the loop over strings, whose time grows with the claimed count.
    if count * item_bytes > cursor.file_size - cursor.pos:
        raise cursor.fault_at(
            f"the array claims {count:,} items, more than the file can hold", at, key
        )
    start = cursor.pos
    if item is ValueType.STRING:
        cursor.skip_strings(count, key)
    elif item is ValueType.BOOL:
        cursor.require_bytes(count, key)
        cursor.pos += count
        cursor.check_bools(start, key)
    else:
        cursor.skip_numbers(count * item_bytes, key)
    length = cursor.pos - start
    return Value(kind, Array(item, count, length, lambda: load(start, length)))


def _read_alignment(
    keys: Mapping[str, Value], cursor: Cursor, key_offsets: Mapping[str, int]
) -> int:
    name = "general.alignment"
    value = keys.get(name)
    if value is None:
        return DEFAULT_ALIGNMENT
    data, at = value.data, key_offsets[name]
    if value.type is not ValueType.UINT32 or not isinstance(data, int):
        raise cursor.fault_at(f"is {value.type_name}, expected uint32", at, name)
    low, high = Limits.ALIGNMENT
    if not low <= data <= high or data & (data - 1):
        raise cursor.fault_at(f"{data} is not a power of two between {low} and {high}", at, name)
    return data


def _read_tensors(cursor: Cursor, count: int, alignment: int) -> dict[str, TensorInfo]:
    tensors: dict[str, TensorInfo] = {}
    expected = 0
    for _ in range(count):
        start = cursor.pos
        name = cursor.read_name(Limits.NAME_BYTES, "a tensor's name")
        if not name or name in tensors:
            raise cursor.fault_at(
                "the tensor appears twice" if name else "a tensor has no name", start, name
            )
        n_dims = cursor.read_u32(f"the rank of {name}")
        if not 1 <= n_dims <= Limits.DIMS:
            raise cursor.fault_at(
                f"{n_dims} dimensions, 1 to {Limits.DIMS} are allowed", cursor.pos - 4, name
            )
        shape = tuple(cursor.read_u64(f"the shape of {name}") for _ in range(n_dims))
        number = cursor.read_u32(f"the type of {name}")
        kind = BY_ID.get(number)
        if kind is None:
            raise cursor.fault_at(f"unknown tensor type {number}", cursor.pos - 4, name)
        # llama.cpp keeps the product in 64 bits. Python's integers cannot overflow: check it here.
        if not 0 < prod(shape) < Limits.ELEMENTS:
            raise cursor.fault_at(f"impossible shape {list(shape)}", start, name)
        if shape[0] % kind.block_size:
            raise cursor.fault_at(
                f"a row of {shape[0]} is not a multiple of "
                f"the {kind.name} block size {kind.block_size}",
                start,
                name,
            )
        offset = cursor.read_u64(f"the offset of {name}")
        # llama.cpp requires the same: each tensor begins at the padded end of the one before it.
        if offset != expected:
            raise cursor.fault_at(
                f"the tensor is at offset {offset:,}, expected {expected:,}", cursor.pos - 8, name
            )
        tensors[name] = tensor = TensorInfo(name, kind, shape, offset)
        expected = round_up(offset + tensor.nbytes, alignment)
    return tensors


def _file_loader(path: str) -> Callable[[int, int], bytes]:
    def load_bytes(offset: int, length: int) -> bytes:
        with open_file(path) as file:
            file.seek(offset)
            data = file.read(length)
        if len(data) != length:
            raise BadGGUF(path, "the file became shorter while it was read", offset=offset)
        return data

    return load_bytes
