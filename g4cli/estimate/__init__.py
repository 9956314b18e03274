"""How much memory a Gemma 4 network takes, term by term, from its shape alone. Pure: no file, no machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from g4cli.core.shape import Shape
from g4cli.core.units import MIB
from g4cli.estimate.compute import compute_bytes, output_bytes
from g4cli.estimate.kv import kv_bytes, kv_cells
from g4cli.estimate.options import CTX_PAD, KV_TYPES, Options, check, kv_type
from g4cli.estimate.result import HOST, Estimate, Group, Term
from g4cli.estimate.weights import Tensor, repacked_types, weight_terms

LIBRARY: Final = "0.3.36"
"""The llama-cpp-python whose llama.cpp (0c1e57098) these figures were proved against."""

__all__ = [
    "CTX_PAD",
    "HOST",
    "KV_TYPES",
    "LIBRARY",
    "Estimate",
    "Group",
    "Options",
    "Tensor",
    "Term",
    "check",
    "estimate",
    "kv_bytes",
    "kv_cells",
    "kv_type",
    "repacked_types",
]


def estimate(shape: Shape, tensors: Sequence[Tensor], options: Options) -> Estimate:
    """Return what a run of `g4 chat` with `options` takes. Raises UsageError if llama.cpp would refuse it."""
    check(shape, options)
    full, sliding = kv_bytes(shape, options)
    cells = kv_cells(shape, options)
    terms = [
        *weight_terms(tensors, options),
        Term("KV full", HOST, "kv", full, f"{cells.full} cells"),
        Term("KV sliding", HOST, "kv", sliding, f"{cells.swa} cells"),
        Term("compute", HOST, "compute", compute_bytes(shape, options)),
        Term("logits", HOST, "compute", output_bytes(shape, options)),
        Term("process", HOST, "process", process_bytes(shape)),
    ]
    return Estimate(tuple(terms))


def process_bytes(shape: Shape) -> int:
    """Return the bytes of Python, llama.cpp's code and the vocabulary in memory."""
    return 64 * MIB + 640 * shape.n_vocab
