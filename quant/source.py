"""The keys and tensor list of a GGUF to quantize, which may be split into several files.

plan.py chooses types by them, reader.py reads the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.core.errors import BadGGUF, FileMissing
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header, TensorInfo
from g4cli.core.gguf_values import Value
from g4cli.core.split_name import name_part, parse_split_name
from g4cli.quant.sfp8_archive import coded_tensors, decoded_view, is_archive

SPLIT_KEYS: Final = ("split.no", "split.count", "split.tensors.count")


@dataclass(frozen=True, slots=True)
class Source:
    """One model in one file or several (`parts`, in order; `path` is the first).

    `owner[name]` is the header of the part that holds a tensor. `coded[name]` is the exponent of a
    tensor that is stored as SFP8 codes: its weights are the values of the codes times 2^exponent;
    `tensors` shows it as BF16.
    """

    path: Path
    parts: tuple[Header, ...]
    owner: Mapping[str, Header]
    tensors: Mapping[str, TensorInfo]
    coded: Mapping[str, int]

    @property
    def keys(self) -> Mapping[str, Value]:
        """Return the keys of the first part, where the model's keys are."""
        return self.parts[0].keys

    @property
    def nbytes(self) -> int:
        """Return the bytes of all parts."""
        return sum(part.file_size for part in self.parts)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the files of all parts, in order."""
        return tuple(Path(part.path) for part in self.parts)


def open_source(path: Path) -> Source:
    """Return the model at `path`, with its other parts from the same folder.

    Raises BadGGUF, FileMissing for a part.
    """
    first = read_header(path)
    count = int(first.get("split.count", int, 1))
    parts = (first,) if count <= 1 else tuple(_open_parts(path, first, count))
    owner: dict[str, Header] = {}
    tensors: dict[str, TensorInfo] = {}
    for part in parts:
        for name, tensor in part.tensors.items():
            if name in owner:
                raise BadGGUF(part.path, f"{name} is in {owner[name].path} too", field=name)
            owner[name], tensors[name] = part, tensor
    announced = int(first.get("split.tensors.count", int, len(tensors)))
    if count > 1 and announced != len(tensors):
        raise BadGGUF(path, f"the parts hold {len(tensors)} tensors, {announced} are announced")
    coded: dict[str, int] = {}
    if is_archive(first):
        if count > 1:
            raise BadGGUF(path, "an SFP8 archive is one file, not several", field="split.count")
        coded = coded_tensors(first)
        tensors = decoded_view(first, coded)
    return Source(path, parts, owner, tensors, coded)


def _open_parts(path: Path, first: Header, count: int) -> Iterator[Header]:
    """Yield the headers of all `count` parts, of which `first` is that of the file at `path`."""
    if first.get("split.no", int, 0) != 0:
        raise BadGGUF(path, "this is not the first part of a split model", field="split.no")
    split = parse_split_name(path.name) if path.suffix == ".gguf" else None
    if split is None or split.total != count:
        raise BadGGUF(
            path,
            f"one of {count} parts, but its name does not end with {name_part('', 1, count)}",
            field="split.count",
        )
    yield first
    for number in range(2, count + 1):
        part = path.with_name(name_part(split.stem, number, count))
        if not part.is_file():
            raise FileMissing(part, hint=f"download part {number} of {count} into {path.parent}")
        header = read_header(part)
        if header.get("split.no", int, -1) != number - 1:
            raise BadGGUF(part, f"is not part {number}", field="split.no")
        yield header
