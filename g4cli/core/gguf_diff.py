"""Compare the headers of two GGUF files: keys by value, tensors by type and shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from g4cli.core.gguf_header import Header, TensorInfo
from g4cli.core.gguf_values import Array, Value


@dataclass(frozen=True, slots=True)
class Difference:
    """A key or a tensor that differs; a side that does not have it is ""."""

    kind: Literal["key", "tensor"]
    name: str
    first: str
    second: str

    @property
    def row(self) -> tuple[str, str, str, str]:
        """The fields as a row of a table, '-' for a side that does not have it."""
        return self.kind, self.name, self.first or "-", self.second or "-"

    def as_json(self) -> dict[str, str | None]:
        """Return the difference as JSON data; a side that does not have it is null."""
        return {
            "kind": self.kind,
            "name": self.name,
            "first": self.first or None,
            "second": self.second or None,
        }


def diff_headers(first: Header, second: Header) -> tuple[Difference, ...]:
    """Return the keys, then the tensors (by type and shape) that differ, in file order."""
    found = list(_diff_keys(first, second))
    for name in dict.fromkeys(chain(first.tensors, second.tensors)):
        a, b = first.tensors.get(name), second.tensors.get(name)
        if a is None or b is None or (a.type, a.shape) != (b.type, b.shape):
            found.append(Difference("tensor", name, _tensor_text(a), _tensor_text(b)))
    return tuple(found)


def _diff_keys(first: Header, second: Header) -> Iterator[Difference]:
    for name in dict.fromkeys(chain(first.keys, second.keys)):
        a, b = first.keys.get(name), second.keys.get(name)
        if a is None or b is None or a.type != b.type or a.data != b.data:
            yield Difference("key", name, _value_text(a, b), _value_text(b, a))


def _value_text(value: Value | None, other: Value | None) -> str:
    if value is None:
        return ""
    data = value.data
    if isinstance(data, Array):
        text = f"{len(data):,} x {data.item_type.name.lower()}"
        if other is not None and isinstance(other.data, Array) and len(other.data) == len(data):
            pairs = enumerate(zip(data.tolist(), other.data.tolist(), strict=True))
            for index, (mine, theirs) in pairs:
                if mine != theirs:
                    return f"{text}, [{index}] = {mine!r}"
        return text
    if isinstance(data, str):
        return f"{len(data):,} characters" if len(data) > 60 else repr(data)
    return f"{data}" if other is None or other.type == value.type else f"{data} ({value.type_name})"


def _tensor_text(tensor: TensorInfo | None) -> str:
    return f"{tensor.type.name} {' x '.join(map(str, tensor.shape))}" if tensor else ""
