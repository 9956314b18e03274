"""The plan of a quantization: types, sizes and reasons, before anything is written. No numpy."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from g4cli.core.errors import BadGGUF, UsageError
from g4cli.core.ggml import F32, I8, GGMLType
from g4cli.quant.recipes import Choice, Recipe, choose_tensors, drop_layer, is_vector
from g4cli.quant.sfp8_archive import EXACT_TYPES, is_sfp8
from g4cli.quant.source import Source, open_source


@dataclass(frozen=True, slots=True)
class Group:
    """`count` tensors of one kind, with the same types and reason; bytes are totals.

    `kind` is their name without the layer, or what vectors are called together.
    """

    kind: str
    source: str
    type: str
    reason: str
    count: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be written. Bytes are those of the weights; the header comes on top.

    `type` is the file type, and `is_archive` says whether it is an SFP8 archive. `coded` names the
    tensors that the source stores as SFP8 codes. The bytes of a coded tensor include its scale.
    """

    path: Path
    type: str
    choices: tuple[Choice, ...]
    is_archive: bool
    coded: Collection[str]

    @property
    def source_bytes(self) -> int:
        """Bytes of the weights in the source."""
        return sum(map(self._count_source_bytes, self.choices))

    @property
    def nbytes(self) -> int:
        """Bytes of the weights in the new file."""
        return sum(map(self._count_new_bytes, self.choices))

    @property
    def bits_per_weight(self) -> float:
        """The average over all weights of the new file."""
        return 8 * self.nbytes / sum(prod(c.shape) for c in self.choices)

    def group_by_kind(self) -> list[Group]:
        """Return the tensors in groups, the largest in the new file first."""
        members: dict[tuple[str, str, str, str], list[Choice]] = {}
        for choice in self.choices:
            kind = "norms, other vectors" if is_vector(choice.shape) else drop_layer(choice.name)
            type_name = "SFP8" if choice.rounds else choice.type.name
            source = "SFP8" if choice.name in self.coded else choice.source.name
            key = (kind, source, type_name, choice.reason)
            members.setdefault(key, []).append(choice)
        groups = [
            Group(
                *key,
                count=len(choices),
                bytes_before=sum(map(self._count_source_bytes, choices)),
                bytes_after=sum(map(self._count_new_bytes, choices)),
            )
            for key, choices in members.items()
        ]
        return sorted(groups, key=lambda group: -group.bytes_after)

    def as_json(self) -> dict[str, Any]:
        """Return the plan for scripts, tensor by tensor."""
        return {
            "path": str(self.path),
            "type": self.type,
            "bytes": self.nbytes,
            "source_bytes": self.source_bytes,
            "bits_per_weight": round(self.bits_per_weight, 4),
            "tensors": [
                {
                    "name": c.name,
                    "shape": list(c.shape),
                    "from": self._find_source_type(c).name,
                    "to": c.type.name,
                    "sfp8": c.rounds,
                    "bytes": self._count_new_bytes(c),
                    "reason": c.reason,
                }
                for c in self.choices
            ],
        }

    def _find_source_type(self, choice: Choice) -> GGMLType:
        return I8 if choice.name in self.coded else choice.source

    def _count_source_bytes(self, choice: Choice) -> int:
        scale = F32.block_bytes if choice.name in self.coded else 0
        return scale + self._find_source_type(choice).tensor_bytes(choice.shape)

    def _count_new_bytes(self, choice: Choice) -> int:
        scale = F32.block_bytes if choice.rounds and self.is_archive else 0
        return scale + choice.spec.nbytes


def plan_file(path: Path, recipe: Recipe, *, allow_requantize: bool = False) -> Planned:
    """Return the plan for quantizing the GGUF at `path`. Raises as `quantize_file` would."""
    source = open_source(path)
    choices = choose_for_source(source, recipe, allow_requantize=allow_requantize)
    return Planned(path, recipe.type, choices, recipe.is_archive, source.coded.keys())


def choose_for_source(
    source: Source, recipe: Recipe, *, allow_requantize: bool = False
) -> tuple[Choice, ...]:
    """Return the choice for each tensor of `source`.

    Raises UsageError if the source is quantized and `allow_requantize` is not given, or if a
    pattern matches no tensor; BadGGUF if the source holds no tensors.
    """
    if not source.tensors:
        raise BadGGUF(source.path, "holds no tensors: it is a vocabulary, not a model")
    choices = choose_tensors(source.tensors.values(), recipe)
    if allow_requantize:
        return choices
    quantized = next((c for c in choices if c.source.is_quantized and c.changes), None)
    if quantized or (is_sfp8(source.keys) and recipe.type not in EXACT_TYPES):
        what = (
            f"{quantized.name} is {quantized.source.name}" if quantized else "its weights are SFP8"
        )
        raise UsageError(
            f"{source.path} is already quantized ({what}): a second time loses more precision",
            hint="start from the BF16 file, or add --allow-requantize",
        )
    return choices
