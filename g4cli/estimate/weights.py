"""Which weights lie where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from g4cli.core.ggml import GGMLType
from g4cli.core.inventory import PER_LAYER_TOKEN_EMBD
from g4cli.estimate.options import Options
from g4cli.estimate.result import HOST, Term


class Tensor(Protocol):
    """What the estimator needs of a tensor: core.gguf.TensorInfo and core.gguf_write.TensorSpec have it."""

    @property
    def name(self) -> str:
        """Return the tensor's name."""
        ...

    @property
    def type(self) -> GGMLType:
        """Return the tensor's type."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the extents, row length first."""
        ...

    @property
    def nbytes(self) -> int:
        """Return the bytes of the data."""
        ...


def weight_terms(tensors: Sequence[Tensor], options: Options) -> list[Term]:
    """Return the terms of the weights: the per-layer-embedding table apart, since it may stay on the disk."""
    table = sum(t.nbytes for t in tensors if t.name == PER_LAYER_TOKEN_EMBD)
    terms = [Term("weights", HOST, "weights", sum(t.nbytes for t in tensors) - table)]
    if table:
        group, note = ("disk", "rows are read when needed") if options.lazy_ple else ("weights", "")
        terms.append(Term("per-layer embeddings", HOST, group, table, note))  # type: ignore[arg-type]
    return terms
