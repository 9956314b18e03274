"""The mapping of checkpoint tensors to GGUF tensors: tables of rows, expanded for a config.

A table (text.py, vision.py, audio.py) has one Row per kind of tensor. `expand_rows`
computes the names and shapes in a network, and `claim_tensors` compares a checkpoint with them.
Every tensor must be claimed by exactly one row, or be listed as ignored with a reason; convert.py
then writes the claimed ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from g4cli.converters.checkpoint import FLOATS, CheckpointTensor, list_names
from g4cli.converters.transforms import ValueTransform, ViewTransform, as_is
from g4cli.core.errors import BadCheckpoint

Network = TypeVar("Network")  # the config of one network: TextConfig, VisionConfig, ...
# Functions of a network and a layer (0 for tensors of the whole network): a shape, a condition.
ShapeOf: TypeAlias = Callable[[Network, int], tuple[int, ...]]
When: TypeAlias = Callable[[Network, int], bool]


def always_true(_network: object, _layer: int) -> bool:
    """Return True: the condition of a tensor that every network has."""
    return True


@dataclass(frozen=True, slots=True)
class Row(Generic[Network]):
    """One kind of tensor. `source` is its name in the checkpoint, `target` that in the GGUF.

    `{}` in both names is the layer; `shape` is the checkpoint's, in torch's order. `when`: this
    network may have such a tensor, which is unknown otherwise. `needed`: if so, it must have it.
    `view` and `value` transform the tensor (transforms.py). `f32`: it is always written as F32.
    `merge`: how many trailing axes of the view become the row in the GGUF. `infinite`: Inf is
    allowed (a bound that was never set).
    """

    source: str
    target: str
    shape: ShapeOf[Network]
    when: When[Network] = always_true
    needed: When[Network] = always_true
    view: ViewTransform = as_is
    value: ValueTransform | None = None
    f32: bool = False
    merge: int = 1
    infinite: bool = False


@dataclass(frozen=True, slots=True)
class Ignore:
    """Tensors that are left out: a regular expression of the whole name, and the reason."""

    pattern: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExpectedTensor:
    """A row for one layer: `shape` of the checkpoint's tensor, and `target`, its name in the GGUF.

    `needed`: the checkpoint must have it.
    """

    row: Row[Any]
    target: str
    shape: tuple[int, ...]
    needed: bool


Claim: TypeAlias = tuple[CheckpointTensor, ExpectedTensor]
"""A checkpoint tensor and what it was expected to be."""


def expand_rows(
    rows: Sequence[Row[Network]], network: Network, n_layer: int
) -> dict[str, ExpectedTensor]:
    """Return every tensor that `rows` describe in this network, by normalized checkpoint name."""
    expected: dict[str, ExpectedTensor] = {}
    for row in rows:
        for layer in range(n_layer) if "{}" in row.source else (0,):
            if row.when(network, layer):
                name = row.source.format(layer)
                if name in expected:
                    raise ValueError(f"two rows claim {name}")
                target = row.target.format(layer)
                expected[name] = ExpectedTensor(
                    row, target, row.shape(network, layer), row.needed(network, layer)
                )
    return expected


def claim_tensors(
    tensors: Mapping[str, CheckpointTensor],
    expected: Mapping[str, ExpectedTensor],
    ignores: Sequence[Ignore],
    normalize_name: Callable[[str], str],
    where: str,
) -> tuple[list[Claim], dict[str, str]]:
    """Return the claims in the checkpoint's order, and the ignored names with their reasons.

    `expected` is what `expand_rows` returned: its names are those that `normalize_name` makes of
    the checkpoint's, `ignores` match the checkpoint's own. `where` names the checkpoint in errors.
    Raises BadCheckpoint listing all tensors that are unknown, missing, duplicate or of a wrong
    shape.
    """
    claims: list[Claim] = []
    ignored: dict[str, str] = {}
    unclaimed: list[str] = []
    wrong: list[str] = []
    seen: dict[str, str] = {}
    for name, source in tensors.items():
        key = normalize_name(name)
        tensor = expected.get(key)
        reason = next((ig.reason for ig in ignores if re.fullmatch(ig.pattern, name)), None)
        if reason is not None:
            ignored[name] = reason
        elif tensor is None:
            unclaimed.append(name)
        elif key in seen:
            wrong.append(f"{name} and {seen[key]} are the same tensor")
        else:
            seen[key] = name
            if source.shape != tensor.shape:
                wrong.append(f"{name} is {list(source.shape)}, expected {list(tensor.shape)}")
            elif source.dtype not in FLOATS:
                wrong.append(
                    f"{name} has the type {source.dtype}; {', '.join(FLOATS)} can be converted"
                )
            claims.append((source, tensor))
    missing = [name for name, tensor in expected.items() if tensor.needed and name not in seen]
    faults = (
        list_names("missing tensors", missing),
        list_names("unknown tensors", unclaimed),
        list_names("wrong tensors", wrong),
    )
    if any(faults):
        raise BadCheckpoint(
            f"{where}: " + "; ".join(filter(None, faults)),
            hint="g4 convert supports published Gemma 4 checkpoints only",
        )
    return claims, ignored
