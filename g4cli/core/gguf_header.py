"""The parsed header of a GGUF: its keys, its tensors and the offset of their data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from g4cli.core.errors import BadGGUF
from g4cli.core.ggml import GGMLType, round_up
from g4cli.core.gguf_values import Value, find_data


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor without its data; `shape[0]` is the row length (ggml's ne[0])."""

    name: str
    type: GGMLType
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's data, without padding."""
        return self.type.tensor_bytes(self.shape)


@dataclass(frozen=True, slots=True)
class TensorInfo(TensorSpec):
    """A tensor of a file; `offset` counts bytes from the start of the data, not of the file."""

    offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header: the keys and the tensors of a file.

    `path` names the file in messages (`hf:OWNER/REPO/FILE` for one on the hub). `data_offset` is
    where the data of the tensors starts in the file, `key_offsets` where each key starts. All sizes
    are in bytes.
    """

    path: str
    version: int
    alignment: int
    keys: Mapping[str, Value]
    tensors: Mapping[str, TensorInfo]
    data_offset: int
    file_size: int
    key_offsets: Mapping[str, int] = field(default_factory=dict, repr=False)

    @property
    def data_end(self) -> int:
        """The offset in the file of the first byte after the last tensor, padding not counted."""
        if not self.tensors:  # a vocabulary file ends with its header, unpadded
            return min(self.data_offset, self.file_size)
        return self.data_offset + max(t.offset + t.nbytes for t in self.tensors.values())

    @property
    def trailing_bytes(self) -> int:
        """Bytes after the padded end of the data: 0 in a good file, negative in a truncated one.

        The padding of the last tensor may be absent.
        """
        padded_end = round_up(self.data_end, self.alignment)
        return max(0, self.file_size - padded_end) or min(0, self.file_size - self.data_end)

    @property
    def architecture(self) -> str:
        """The value of general.architecture. Raises BadGGUF if it is absent or not a string."""
        return str(self.get("general.architecture", str))

    def get(self, key: str, kind: type[Any], default: Any = None) -> Any:
        """Return the value of `key` as `kind` (int, float, bool, str or Array).

        Raises BadGGUF if the key is absent and no default is given, or if it has another type.
        """
        value = self.keys.get(key)
        if value is None:
            if default is not None:
                return default
            raise BadGGUF(self.path, "the key is missing", field=key)
        data = find_data(self.keys, key, kind)
        if data is not None:
            return data
        raise BadGGUF(
            self.path,
            f"is {value.type_name}, expected {kind.__name__}",
            offset=self.key_offsets.get(key),
            field=key,
        )

    def file_offset(self, tensor: TensorInfo) -> int:
        """Return the offset in the file of the first byte of `tensor`."""
        return self.data_offset + tensor.offset
