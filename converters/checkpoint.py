"""A Hugging Face checkpoint of safetensors: validated, then read through memory maps.

The format (huggingface/safetensors, README "Format"): u64 length of the header, the header in JSON
`{name: {"dtype", "shape", "data_offsets": [begin, end]}}`, then the data. A sharded checkpoint has
an index `model.safetensors.index.json` with `weight_map: {name: file}`.

The files may come from anyone, so nothing in them is used before it is checked: lengths, offsets
against shape and dtype and against each other, file names against the folder.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeGuard

import numpy as np
from numpy.typing import NDArray

from g4cli.converters.folder_file import open_inside, read_inside
from g4cli.core.errors import BadCheckpoint, FileMissing
from g4cli.core.files import is_folder, is_there
from g4cli.core.ggml import BY_NAME, GGMLType
from g4cli.core.units import count_text

# Bytes per number, for the types that some tensor of a Gemma 4 checkpoint may have.
SIZES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "BF16": 2,
        "F16": 2,
        "F32": 4,
        "F64": 8,
        "I64": 8,
        "I32": 4,
        "I16": 2,
        "I8": 1,
        "U8": 1,
        "BOOL": 1,
        "F8_E4M3": 1,
        "F8_E5M2": 1,
    }
)
# The types that can be converted. numpy has no bfloat16: its bits are kept as uint16, and
# `to_float32` converts them.
FLOATS: Final[Mapping[str, np.dtype[Any]]] = MappingProxyType(
    {"BF16": np.dtype("<u2"), "F16": np.dtype("<f2"), "F32": np.dtype("<f4")}
)

# A Gemma 4 header takes 0.2 MB; safetensors itself stops at 100 MB.
MAX_HEADER_BYTES: Final = 16 << 20
# The largest JSON files. Parsed JSON takes up to 25 times the size of its file. Those not listed
# have under 10 kB.
MAX_JSON_BYTES: Final = 1 << 20
MAX_JSON_BYTES_OF: Final[Mapping[str, int]] = MappingProxyType(
    {
        "tokenizer.json": 64 << 20,  # 32 MB in Gemma 4
        "tokenizer_config.json": 8 << 20,  # 1.2 MB in Gemma 3, with every added token
        "model.safetensors.index.json": 16 << 20,
        "chat_template.json": 4 << 20,
    }
)
# Choices, far above what Gemma 4 has: some 2,000 tensors of at most 4 dimensions, 2 shards.
MAX_TENSORS: Final = 100_000
MAX_DIMENSIONS: Final = 8
MAX_SHARDS: Final = 1_000
_MAX_NAME_CHARS: Final = 256  # of a tensor; a GGUF holds 63 bytes
_MAX_WHOLE_NUMBER: Final = 1 << 48  # of a shape or an offset: 256 TiB
_NAME_BYTES: Final = 255  # NAME_MAX of every common file system

_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"
DOWNLOAD_AGAIN: Final = "download the checkpoint again: hf download REPO --local-dir DIR"
_MAX_LISTED: Final = 12  # names in an error: a choice


@dataclass(frozen=True, slots=True)
class CheckpointTensor:
    """A tensor of the checkpoint. `shape` is in torch's order: the row length is last.

    `dtype` is a key of SIZES. The data begin at byte `offset` of shard number `file`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: int
    offset: int
    nbytes: int


class Checkpoint:
    """An open checkpoint: `tensors` by name in file order, their data as read-only arrays."""

    def __init__(self, tensors: Mapping[str, CheckpointTensor], maps: Sequence[mmap.mmap]) -> None:
        """`maps` are the mapped shards, by their numbers."""
        self.tensors = MappingProxyType(dict(tensors))
        self._maps = list(maps)

    def plain_type(self) -> GGMLType:
        """Return the type of the first matrix: BF16, F16 or F32; BF16 if none has one of them."""
        first = next(
            (t.dtype for t in self.tensors.values() if len(t.shape) > 1 and t.dtype in FLOATS),
            "BF16",
        )
        return BY_NAME[first]

    def map_array(self, name: str) -> NDArray[Any]:
        """Return the data of tensor `name`: uint16 (bits of BF16), float16 or float32.

        The array is a view of the mapped file, in the tensor's shape.
        """
        source = self.tensors[name]
        dtype = FLOATS[source.dtype]
        flat = np.frombuffer(self._maps[source.file], dtype, prod(source.shape), source.offset)
        return flat.reshape(source.shape)


def to_float32(raw: NDArray[Any]) -> NDArray[np.float32]:
    """Return `raw` (uint16 = bits of BF16, float16 or float32) as float32, exactly."""
    if raw.dtype == np.uint16:
        values: NDArray[np.float32] = np.left_shift(raw, 16, dtype=np.uint32).view(np.float32)
        return values
    return np.ascontiguousarray(raw, dtype=np.float32)


def make_damage_error(path: Path, what: str) -> BadCheckpoint:
    """Return the error for a file or folder at `path` that another download would mend."""
    return BadCheckpoint(f"{path}: {what}", hint=DOWNLOAD_AGAIN)


def require_folder(folder: Path) -> None:
    """Raise FileMissing or BadCheckpoint unless `folder` is a folder."""
    if is_folder(folder):
        return
    if is_there(folder):
        raise BadCheckpoint(f"{folder} is not a folder with config.json", hint="g4 convert DIR")
    raise FileMissing(
        folder, hint="g4 convert DIR, a folder with config.json and model.safetensors"
    )


def open_checkpoint(folder: Path) -> Checkpoint:
    """Return the checkpoint in `folder`. Raises FileMissing or BadCheckpoint."""
    require_folder(folder)
    files, shard_of = _find_shards(folder)
    tensors: dict[str, CheckpointTensor] = {}
    maps = []
    for number, file in enumerate(files):
        buffer = _map_file(file)
        maps.append(buffer)
        for source in _read_header(file, buffer, number):
            if source.name in tensors:
                raise BadCheckpoint(f"{file}: the tensor {source.name} is in another shard too")
            tensors[source.name] = source
    if shard_of is not None and tensors.keys() != shard_of.keys():
        differences = (
            list_names("missing", sorted(shard_of.keys() - tensors.keys())),
            list_names("not in the index", sorted(tensors.keys() - shard_of.keys())),
        )
        raise BadCheckpoint(
            f"{folder / INDEX} and the shards disagree: {'; '.join(filter(None, differences))}",
            hint=DOWNLOAD_AGAIN,
        )
    return Checkpoint(tensors, maps)


def list_names(what: str, names: Sequence[str]) -> str:
    """Return 'what: a, b', ending with 'and 3 more' after _MAX_LISTED names; '' for none."""
    if not names:
        return ""
    rest = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return f"{what}: {', '.join(names[:_MAX_LISTED])}{rest}"


def read_json(path: Path, *, required: bool = True) -> dict[str, Any]:
    """Return the JSON object in the file at `path` ({} if absent and not required).

    Raises BadCheckpoint.
    """
    try:
        data = read_inside(path, MAX_JSON_BYTES_OF.get(path.name, MAX_JSON_BYTES))
    except FileNotFoundError:
        if not required:
            return {}
        raise BadCheckpoint(
            f"{path.parent} has no {path.name}: not a Hugging Face checkpoint", hint=DOWNLOAD_AGAIN
        ) from None
    return _parse_object(data, str(path))


def _parse_object(data: bytes, where: str) -> dict[str, Any]:
    """Return the JSON object in `data`, all of whose strings can be written to a GGUF."""
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
        if _SURROGATE_ESCAPE.search(data):  # half a surrogate pair cannot be encoded as UTF-8
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as err:
        raise BadCheckpoint(f"{where}: not JSON ({str(err)[:200]})", hint=DOWNLOAD_AGAIN) from err
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{where}: not a JSON object")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _find_shards(folder: Path) -> tuple[list[Path], dict[str, str] | None]:
    """Return the files, and the index's shard of each tensor, or None without an index."""
    index = folder / INDEX
    if not index.is_file():
        single = folder / SINGLE
        if single.is_file():
            return [single], None
        others = sorted(p.name for p in folder.glob("*.safetensors"))
        raise BadCheckpoint(
            f"{folder} has neither {SINGLE} nor {INDEX}"
            + (f" (it has {list_names('shards', others)})" if others else ""),
            hint=DOWNLOAD_AGAIN,
        )
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadCheckpoint(f"{index}: no weight_map")
    if not all(isinstance(file, str) for file in weight_map.values()):
        raise BadCheckpoint(f"{index}: a file name in weight_map is not a string")
    names = sorted(set(weight_map.values()))
    if len(names) > MAX_SHARDS:
        raise BadCheckpoint(
            f"{index}: {len(names):,} shards, more than the limit of {MAX_SHARDS:,}"
        )
    outside = [name for name in names if Path(name).name != name or name in ("", ".", "..")]
    if outside:
        raise BadCheckpoint(f"{index}: {list_names('shards outside of the folder', outside)}")
    long = [name[:40] + " ..." for name in names if len(os.fsencode(name)) > _NAME_BYTES]
    if long:
        raise BadCheckpoint(f"{index}: {list_names('shard names that are too long', long)}")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise make_damage_error(folder, list_names("missing shards", missing))
    return [folder / name for name in names], weight_map


def _map_file(file: Path) -> mmap.mmap:
    try:
        with open_inside(file) as handle:
            size = os.fstat(handle.fileno()).st_size
            if size < 8:
                raise make_damage_error(file, f"{size} bytes are too few for a safetensors file")
            buffer = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_SEQUENTIAL"):  # longer read-ahead: twice the speed from a disk
            buffer.madvise(mmap.MADV_SEQUENTIAL)
        return buffer
    except OSError as err:
        raise BadCheckpoint(f"{file} cannot be read: {err.strerror}") from err


def _read_header(file: Path, buffer: mmap.mmap, number: int) -> list[CheckpointTensor]:
    """Return the tensors in the header of `file`, which is mapped as `buffer`: shard `number`."""
    length = int.from_bytes(buffer[:8], "little")
    if length > len(buffer) - 8:
        raise make_damage_error(
            file, f"the header claims {length:,} bytes, the file has {len(buffer) - 8:,}"
        )
    if length > MAX_HEADER_BYTES:
        raise BadCheckpoint(
            f"{file}: the header has {length:,} bytes, more than {MAX_HEADER_BYTES:,}"
        )
    header = _parse_object(buffer[8 : 8 + length], f"{file}, header")
    header.pop("__metadata__", None)
    if len(header) > MAX_TENSORS:
        raise BadCheckpoint(
            f"{file}: {len(header):,} tensors, more than the limit of {MAX_TENSORS:,}"
        )
    data_start = 8 + length
    tensors = [
        _read_entry(file, name, entry, number, data_start) for name, entry in sorted(header.items())
    ]
    _check_layout(file, tensors, data_start, len(buffer))
    return tensors


def _read_entry(
    file: Path, name: str, entry: Any, number: int, data_start: int
) -> CheckpointTensor:
    """Return the tensor that the header's `entry` describes; `file` is shard `number`."""

    def make_error(what: str) -> BadCheckpoint:
        return make_damage_error(file, f"tensor {name[:_MAX_NAME_CHARS]}: {what}")

    if len(name) > _MAX_NAME_CHARS:
        raise make_error(f"a name of {len(name):,} characters")
    if not isinstance(entry, dict):
        raise make_error("its entry is not an object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in SIZES:
        raise make_error(f"unknown type {dtype!r}")
    if not _are_whole(shape) or len(shape) > MAX_DIMENSIONS:
        raise make_error(f"impossible shape {str(shape)[:80]}")
    if not _are_whole(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise make_error(f"impossible data_offsets {str(offsets)[:80]}")
    nbytes = prod(shape) * SIZES[dtype]
    if nbytes != offsets[1] - offsets[0]:
        raise make_error(
            f"{dtype} {shape} takes {nbytes:,} bytes, data_offsets give {offsets[1] - offsets[0]:,}"
        )
    if nbytes == 0:
        raise make_error(f"it is empty ({shape})")
    return CheckpointTensor(name, dtype, tuple(shape), number, data_start + offsets[0], nbytes)


def _are_whole(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 <= n < _MAX_WHOLE_NUMBER for n in value
    )


def _check_layout(
    file: Path, tensors: Sequence[CheckpointTensor], data_start: int, size: int
) -> None:
    """Raise unless the tensors fill the data without gaps or overlaps, as the format requires."""
    expected = data_start
    for source in sorted(tensors, key=lambda s: s.offset):
        if source.offset != expected:
            what = "overlaps the previous one" if source.offset < expected else "follows a gap"
            raise make_damage_error(file, f"tensor {source.name} {what}")
        expected += source.nbytes
    if expected > size:
        missing = count_text(expected - size, "byte", "are")
        raise make_damage_error(file, f"truncated, {missing} missing at its end")
    if expected < size:
        raise make_damage_error(
            file, f"{count_text(size - expected, 'byte')} after the last tensor"
        )
