"""Values of GGUF keys: their types, their encoding, and arrays that are decoded on demand."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Data = TypeVar("_Data")

U32: Final = struct.Struct("<I")
U64: Final = struct.Struct("<Q")


class ValueType(IntEnum):
    """Type tags of GGUF values (enum gguf_type in ggml/include/gguf.h, llama.cpp@0c1e57098)."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


SCALARS: Final = {
    ValueType.UINT8: struct.Struct("<B"),
    ValueType.INT8: struct.Struct("<b"),
    ValueType.UINT16: struct.Struct("<H"),
    ValueType.INT16: struct.Struct("<h"),
    ValueType.UINT32: U32,
    ValueType.INT32: struct.Struct("<i"),
    ValueType.FLOAT32: struct.Struct("<f"),
    ValueType.BOOL: struct.Struct("<?"),
    ValueType.UINT64: U64,
    ValueType.INT64: struct.Struct("<q"),
    ValueType.FLOAT64: struct.Struct("<d"),
}


@dataclass(frozen=True, slots=True)
class Array:
    """`count` items of one type, `nbytes` in the file, which are read and decoded on demand.

    Two arrays are equal if their bytes are.
    """

    item_type: ValueType
    count: int
    nbytes: int
    _load: Callable[[], bytes] = field(repr=False, compare=False)

    def read_bytes(self) -> bytes:
        """Return the items as they are encoded in the file, strings with their u64 lengths."""
        return self._load()

    def to_numpy(self) -> NDArray[Any]:
        """Return the items as a one-dimensional numpy array. Raises TypeError for strings."""
        import numpy as np

        if self.item_type is ValueType.STRING:
            raise TypeError("strings have no numpy form: use tolist()")
        return np.frombuffer(self.read_bytes(), dtype=np.dtype(SCALARS[self.item_type].format))

    def byte_strings(self) -> Iterator[bytes]:
        """Yield the strings undecoded. Raises TypeError for numbers."""
        if self.item_type is not ValueType.STRING:
            raise TypeError("an array of numbers has no strings")
        data, position = self.read_bytes(), 0
        for _ in range(self.count):
            (length,) = U64.unpack_from(data, position)
            yield data[position + 8 : position + 8 + length]
            position += 8 + length

    def tolist(self) -> list[Any]:
        """Return the items as Python values; bytes that are not UTF-8 become U+FFFD."""
        return self.first_items(self.count)

    def first_items(self, n: int) -> list[Any]:
        """Return at most the first `n` items as Python values."""
        if self.item_type is ValueType.STRING:
            return [item.decode("utf-8", "replace") for item in islice(self.byte_strings(), n)]
        # numpy is not used, because importing it would take a third of the start-up time of `g4
        # chat`.
        code = SCALARS[self.item_type].format[-1]
        return list(struct.unpack_from(f"<{min(n, self.count)}{code}", self.read_bytes()))

    def __len__(self) -> int:
        return self.count

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Array)
            and (self.item_type, self.count) == (other.item_type, other.count)
            and self.read_bytes() == other.read_bytes()
        )


@dataclass(frozen=True, slots=True)
class Value:
    """A typed value: `data` is int, float, bool, str or Array."""

    type: ValueType
    data: int | float | bool | str | Array

    @property
    def type_name(self) -> str:
        """The type as text: 'uint32', 'array of string'."""
        if isinstance(self.data, Array):
            return f"array of {self.data.item_type.name.lower()}"
        return self.type.name.lower()

    def encode(self) -> bytes:
        """Return the value's bytes as a GGUF holds them, type tag not included."""
        if isinstance(self.data, Array):
            return (
                U32.pack(self.data.item_type) + U64.pack(self.data.count) + self.data.read_bytes()
            )
        if isinstance(self.data, str):
            return encode_string(self.data)
        return SCALARS[self.type].pack(self.data)


def find_data(keys: Mapping[str, Value], key: str, kind: type[_Data]) -> _Data | None:
    """Return the data of `key` if it is of `kind` (int, float, bool, str or Array), else None."""
    value = keys.get(key)
    data = value.data if value is not None else None
    is_misread = kind is int and isinstance(data, bool)  # Python counts bool among the ints
    return data if isinstance(data, kind) and not is_misread else None


def encode_string(text: str | bytes) -> bytes:
    """Return the u64 length and the bytes of `text` in UTF-8."""
    # A file name may contain bytes that are not UTF-8. What was read from a file comes as bytes.
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    return U64.pack(len(data)) + data


def uint32_value(value: int) -> Value:
    """Return a uint32 value."""
    return Value(ValueType.UINT32, value)


def int32_value(value: int) -> Value:
    """Return an int32 value."""
    return Value(ValueType.INT32, value)


def float32_value(value: float) -> Value:
    """Return a float32 value, rounded as the file stores it."""
    (rounded,) = SCALARS[ValueType.FLOAT32].unpack(SCALARS[ValueType.FLOAT32].pack(value))
    return Value(ValueType.FLOAT32, rounded)


def bool_value(value: bool) -> Value:
    """Return a bool value."""
    return Value(ValueType.BOOL, value)


def string_value(value: str) -> Value:
    """Return a string value."""
    return Value(ValueType.STRING, value)


def array_value(item_type: ValueType, items: Iterable[Any] | NDArray[np.generic]) -> Value:
    """Return an array value; strings may be str or bytes."""
    if item_type is ValueType.STRING:
        texts = [i.encode("utf-8", "replace") if isinstance(i, str) else i for i in items]
        # Vocabulary and merges are 800,000 strings: a loop in Python would take seconds.
        data = b"".join(
            chain.from_iterable(zip(map(U64.pack, map(len, texts)), texts, strict=True))
        )
        count = len(texts)
    else:
        import numpy as np

        dtype = np.dtype(SCALARS[item_type].format)
        packed = np.asarray(items if hasattr(items, "dtype") else list(items), dtype=dtype)
        data, count = packed.tobytes(), int(packed.size)
    return Value(ValueType.ARRAY, Array(item_type, count, len(data), lambda: data))
