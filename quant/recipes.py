"""The type of each tensor of a file, from names, shapes and the recipe, without reading the file.

A recipe is a file type with the user's exceptions. The rules are llama.cpp's (quant/mixtures.py
holds them as tables), so a file has the same tensor types, in the same order, as one made by
llama-quantize. Source: src/llama-quant.cpp `llama_tensor_get_type`, ggml-org/llama.cpp@0c1e57098.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, Literal, TypeAlias

from g4cli.core.errors import BadFile, UsageError
from g4cli.core.ggml import BF16, BY_NAME, F16, F32, I8, Q8_0, GGMLType
from g4cli.core.gguf_header import TensorSpec
from g4cli.core.inventory import OUTPUT, PER_LAYER_TOKEN_EMBD, TOKEN_EMBD, TensorDims
from g4cli.core.sfp8 import SCALE_SUFFIX
from g4cli.quant.mixtures import (
    ALIASES,
    FALLBACKS,
    FILE_TYPES,
    NEEDS_IMATRIX,
    NEVER_QUANTIZED,
    Category,
    FileType,
    TensorPosition,
    category_of,
    mixture_type,
    tensor_type,
)

TYPES: Final = tuple(t.name for t in FILE_TYPES)
Container: TypeAlias = Literal["archive", "bf16", "q8_0"]
SFP8Encoder: TypeAlias = Literal["nearest", "gemma.cpp"]
DEFAULT_REASON: Final = "default"  # of a Choice: no rule and no override applies
PLE_PATTERN: Final = r"^per_layer_token_embd\.weight$"  # the override that --keep-ple stands for
_LAYER = re.compile(r"blk\.(\d+)\.")
# Of the tensors that have the type of the output matrix.
_OUTPUT_REASONS: Final = {
    OUTPUT: "the output",
    TOKEN_EMBD: "embeddings, tied to the output",
    PER_LAYER_TOKEN_EMBD: "per-layer embeddings, as the output",
}
# The categories of embedding tables, which need no importance matrix.
_TABLE_CATEGORIES: Final = ("output", "token_embd")


NamedTensor: TypeAlias = TensorDims | TensorSpec
"""What a recipe needs to know about a tensor; its `type` too, if it has one."""


def file_type(name: str) -> FileType:
    """Return the file type called `name` (case is ignored). Raises UsageError if there is none."""
    wanted = ALIASES.get(name.lower(), name.lower())
    for row in FILE_TYPES:
        if row.name == wanted:
            return row
    raise UsageError(f"unknown type {name!r}", hint="one of: " + " ".join(TYPES))


@dataclass(frozen=True, slots=True)
class Recipe:
    """A file type and its exceptions.

    `type_name` may be an alias, in any case. `pure` gives all tensors the default type.
    `overrides` are (regular expression, tensor type); the first match wins. With `has_imatrix` an
    importance matrix is used, for which llama.cpp has rules of its own. `container` and
    `sfp8_encoder` apply to the type sfp8 only: how the file stores the values, and whether they are
    rounded to nearest or as gemma.cpp does (quant/sfp8.py). Raises UsageError for an unknown type
    or an invalid regular expression.
    """

    type_name: str
    pure: bool = False
    overrides: tuple[tuple[str, str], ...] = ()
    has_imatrix: bool = False
    container: Container = "archive"
    sfp8_encoder: SFP8Encoder = "nearest"

    def __post_init__(self) -> None:
        file_type(self.type_name)
        for pattern, type_name in self.overrides:
            tensor_type(type_name)
            try:
                re.compile(pattern)
            except re.error as err:
                raise UsageError(
                    f"{pattern!r} is not a regular expression: {err}",
                    hint="--tensor-type 'ffn_down=q6_k'",
                ) from err

    @property
    def row(self) -> FileType:
        """The row of FILE_TYPES."""
        return file_type(self.type_name)

    @property
    def type(self) -> str:
        """The name of the file type, such as "q4_k_m"."""
        return self.row.name

    @property
    def is_sfp8(self) -> bool:
        """Return whether weights are rounded to SFP8."""
        return self.type == "sfp8"

    @property
    def is_archive(self) -> bool:
        """Return whether the file holds SFP8 codes themselves, which llama.cpp cannot run."""
        return self.is_sfp8 and self.container == "archive"

    @property
    def default_type(self) -> GGMLType:
        """Return the tensor type of most tensors, as stored in the file."""
        if self.is_sfp8:
            return {"archive": I8, "bf16": BF16, "q8_0": Q8_0}[self.container]
        return BY_NAME[self.row.default]

    def as_options(self) -> str:
        """Return the type and options of `g4 quantize` that select this recipe.

        They are recorded under the key g4.recipe.
        """
        parts = [self.type]
        if self.is_sfp8 and self.container != "archive":
            parts.append(f"--container {self.container}")
        if self.is_sfp8 and self.sfp8_encoder != "nearest":
            parts.append(f"--encoder {self.sfp8_encoder}")
        if self.pure:
            parts.append("--pure")
        if self.has_imatrix:
            parts.append("--imatrix")
        parts += [f"--tensor-type {pattern}={name.lower()}" for pattern, name in self.overrides]
        return " ".join(parts)


@dataclass(frozen=True, slots=True)
class Choice:
    """The type chosen for one tensor, and why. `source` is its type in the source file.

    `rounds`: its values are rounded to SFP8 first. `obstacle` is why the recipe's type does not fit
    and `type` is llama.cpp's fallback, else '': 'rows of 72 do not divide into Q4_K blocks of 256'.
    """

    name: str
    shape: tuple[int, ...]
    source: GGMLType
    type: GGMLType
    reason: str
    rounds: bool = False
    obstacle: str = ""

    @property
    def changes(self) -> bool:
        """Return whether the bytes differ from the source's."""
        return self.type is not self.source or self.rounds

    @property
    def spec(self) -> TensorSpec:
        """Return the tensor as the new file announces it."""
        return TensorSpec(self.name, self.type, self.shape)


def is_vector(shape: Sequence[int]) -> bool:
    """Return whether a tensor of this shape is a vector: trailing dimensions of 1 do not count."""
    return len(shape) < 2 or prod(shape[1:]) == 1


def kept_reason(name: str, shape: Sequence[int]) -> str | None:
    """Return why no recipe quantizes this tensor, or None if it may be quantized."""
    if is_vector(shape):
        return "a vector"
    if not name.endswith("weight"):
        return "not a weight"
    return next((why for part, why in NEVER_QUANTIZED if part in name), None)


def is_rounded(recipe: Recipe, name: str, shape: Sequence[int]) -> bool:
    """Return whether the tensor's values are rounded to SFP8."""
    if not recipe.is_sfp8 or kept_reason(name, shape):
        return False
    return not any(re.search(pattern, name) for pattern, _ in recipe.overrides)


def converter_type(name: str, shape: Sequence[int]) -> GGMLType:
    """Return the type that the converter gives a tensor of a BF16 checkpoint."""
    is_small = len(shape) < 2 or name.endswith("_norm.weight") or "ffn_gate_inp.weight" in name
    return F32 if is_small or not name.endswith(".weight") else BF16


def source_type(tensor: NamedTensor) -> GGMLType:
    """Return the tensor's type, or the converter's where the tensor does not say."""
    if isinstance(tensor, TensorSpec):
        return tensor.type
    return converter_type(tensor.name, tensor.shape)


def choose_tensors(tensors: Iterable[NamedTensor], recipe: Recipe) -> tuple[Choice, ...]:
    """Return the choice for each tensor, in llama.cpp's order.

    Tensors of the whole model come first, then those of each layer, by name. Raises UsageError for
    an override that matches no tensor, BadFile for a type that needs an importance matrix.
    """
    ordered = sorted(tensors, key=lambda t: (layer_of(t.name), t.name.encode()))
    _check_overrides(ordered, recipe)
    counter = _LayerCounter(ordered, recipe)
    return tuple(_choose_one(t, recipe, counter) for t in ordered)


def choose_types(tensors: Iterable[NamedTensor], recipe: Recipe) -> tuple[TensorSpec, ...]:
    """Return the tensors of the new file, in order, with the scales that an SFP8 archive adds."""
    return with_scales(choose_tensors(tensors, recipe), recipe)


def with_scales(choices: Iterable[Choice], recipe: Recipe) -> tuple[TensorSpec, ...]:
    """Return the tensors of the file to write.

    In an archive each coded tensor is followed by its scale.
    """
    specs: list[TensorSpec] = []
    for choice in choices:
        specs.append(choice.spec)
        if choice.rounds and recipe.is_archive:
            specs.append(scale_spec(choice.spec))
    return tuple(specs)


def scale_spec(spec: TensorSpec) -> TensorSpec:
    """Return the tensor that holds the SFP8 scale of `spec`."""
    return TensorSpec(spec.name + SCALE_SUFFIX, F32, (1,))


def layer_of(name: str) -> int:
    """Return the layer of a tensor, -1 for those of the whole model."""
    match = _LAYER.match(name)
    return int(match[1]) if match else -1


def drop_layer(name: str) -> str:
    """Return the tensor's name without its layer and ".weight": the same for all layers."""
    match = _LAYER.match(name)
    return (name[match.end() :] if match else name).removesuffix(".weight")


class _LayerCounter:
    """The facts about the network that rules depend on, and llama.cpp's running layer counts.

    llama.cpp does not read the layer from a tensor's name, except for experts: it counts the
    tensors of a category that it has met. So `next_position` must be called for them in its order,
    and not for tensors whose type another reason decides.
    """

    def __init__(self, tensors: Sequence[NamedTensor], recipe: Recipe) -> None:
        shapes = {t.name: t.shape for t in tensors}
        router = next((t.shape for t in tensors if t.name.endswith("ffn_gate_inp.weight")), (0, 0))
        query, key = (shapes.get(f"blk.0.attn_{name}.weight", ()) for name in "qk")
        self.n_expert = router[1] if len(router) > 1 else 0
        # Heads of queries and keys have the same size, so the ratio of rows is that of heads.
        # llama.cpp asks for that of layer 0 (hparams.n_gqa), whatever the others have.
        self.n_gqa = query[1] // key[1] if min(len(query), len(key)) > 1 else 0
        self.n_layer = 1 + max((layer_of(t.name) for t in tensors), default=-1)
        self.n_attn_v = sum(category_of(t.name) == "attn_v" for t in tensors)
        self.is_tied = "output.weight" not in shapes
        self.has_imatrix = recipe.has_imatrix
        self._n_seen: dict[Category, int] = {}

    def next_position(self, name: str, category: Category, shape: Sequence[int]) -> TensorPosition:
        """Return the position of the next tensor of `category`."""
        i = self._n_seen.get(category, 0)
        self._n_seen[category] = i + 1
        if self.n_expert > 1 and category == "ffn_down":
            i = layer_of(name)
        n = self.n_attn_v if category == "attn_v" else self.n_layer
        is_expert = len(shape) > 2 and shape[2] > 1
        return TensorPosition(i, n, self.n_gqa, self.n_expert, self.has_imatrix, is_expert)


def _check_overrides(tensors: Sequence[NamedTensor], recipe: Recipe) -> None:
    """Raise UsageError for an override that has no effect on any of `tensors`."""
    for pattern, type_name in recipe.overrides:
        option = f"--tensor-type {pattern}={type_name.lower()}"
        if pattern == PLE_PATTERN:
            option = f"--keep-ple {type_name.lower()}"
        hits = [t for t in tensors if re.search(pattern, t.name)]
        if not hits:
            raise UsageError(f"{option}: no tensor has such a name", hint="g4 show FILE --tensors")
        if all(kept_reason(t.name, t.shape) for t in hits):
            why = kept_reason(hits[0].name, hits[0].shape)
            raise UsageError(f"{option}: {hits[0].name} is never quantized ({why})")


def _choose_one(tensor: NamedTensor, recipe: Recipe, counter: _LayerCounter) -> Choice:
    name, shape, source = tensor.name, tuple(tensor.shape), source_type(tensor)
    kept = kept_reason(name, shape)
    if kept:
        return Choice(name, shape, source, source, f"kept: {kept}")
    override = next((t for p, t in recipe.overrides if re.search(p, name)), None)
    if override:
        wanted, reason = BY_NAME[override.upper()], "as requested"
    elif recipe.is_sfp8 or recipe.pure or not recipe.default_type.is_quantized:
        wanted, reason = recipe.default_type, DEFAULT_REASON
    else:
        wanted, reason = _apply_rules(name, shape, recipe, counter)
    fitting = _fit_to_row(wanted, shape[0])
    if (
        fitting.name in NEEDS_IMATRIX
        and not recipe.has_imatrix
        and category_of(name) not in _TABLE_CATEGORIES
    ):
        raise BadFile(
            f"{name} as {fitting.name} is unusable without an importance matrix",
            hint="add --imatrix FILE, or choose another type",
        )
    obstacle = ""
    if fitting is not wanted:
        obstacle = (
            f"rows of {shape[0]} do not divide into {wanted.name} blocks of {wanted.block_size}"
        )
        reason = f"fallback: {obstacle}"
    rounds = is_rounded(recipe, name, shape)
    return Choice(name, shape, source, fitting, reason, rounds, obstacle)


def _apply_rules(
    name: str, shape: tuple[int, ...], recipe: Recipe, counter: _LayerCounter
) -> tuple[GGMLType, str]:
    """Return the type that llama.cpp's rules give the tensor, and the reason."""
    default, category = recipe.default_type, category_of(name)
    if category == "output" or (category == "token_embd" and counter.is_tied):
        # Gemma's embeddings are its output matrix too; the per-layer table is of the same category.
        is_q8 = recipe.type == "mxfp4" or default is Q8_0 or shape[0] % default.block_size
        return Q8_0 if is_q8 else BY_NAME["Q6_K"], _OUTPUT_REASONS[name]
    if category == "token_embd" and recipe.type != "mxfp4":
        return default, DEFAULT_REASON
    ruled = mixture_type(recipe.type, category, counter.next_position(name, category, shape))
    if ruled is None:
        return default, DEFAULT_REASON
    type_name, reason = ruled
    return BY_NAME[type_name], reason


def _fit_to_row(kind: GGMLType, n: int) -> GGMLType:
    """Return `kind`, or llama.cpp's fallback type where rows of `n` do not divide into blocks."""
    if n % kind.block_size == 0:
        return kind
    fallback = BY_NAME[FALLBACKS.get(kind.name, kind.name)]
    return F16 if n % fallback.block_size else fallback
