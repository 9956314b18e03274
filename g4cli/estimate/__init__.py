"""How much memory a Gemma 4 network takes, term by term, from its shape alone. Pure: no file, no machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from g4cli.core.shape import Shape
from g4cli.core.units import MIB
from g4cli.estimate.compute import compute_bytes, output_bytes, work_bytes
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


CHECKPOINTS_BYTES: Final = 256 * MIB
"""What `g4 chat` spends on checkpoints at most; a larger window is not kept."""

# Measured by tests/bench/resident.py: g4 chat with the network of `tiny`, and a vocabulary alone.
_PROCESS_BYTES: Final = 56 * MIB
_PROCESS_BYTES_PER_TOKEN: Final = 390


def estimate(shape: Shape, tensors: Sequence[Tensor], options: Options) -> Estimate:
    """Return what a run of `g4 chat` with `options` takes. Raises UsageError if llama.cpp would refuse it."""
    check(shape, options)
    full, sliding = kv_bytes(shape, options)
    cells = kv_cells(shape, options)
    rows = "1 row" if options.outputs == 1 else f"{options.outputs} rows"
    terms = [
        *weight_terms(tensors, options),
        Term("KV full", HOST, "kv", full, f"{cells.full} cells"),
        Term("KV sliding", HOST, "kv", sliding, f"{cells.swa} cells"),
        Term("compute", HOST, "compute", compute_bytes(shape, options), f"ubatch {options.ubatch}, {rows}"),
        Term("logits", HOST, "compute", output_bytes(shape, options)),
        Term("work", HOST, "process", work_bytes(shape, options), "rows in the kernels' own type"),
        Term("process", HOST, "process", process_bytes(shape), "Python, libraries, vocabulary"),
    ]
    if sliding and sliding * options.n_checkpoints <= CHECKPOINTS_BYTES:
        note = f"{options.n_checkpoints} of the sliding window; a long chat keeps up to 256 MiB"
        terms.append(Term("checkpoints", HOST, "process", sliding * options.n_checkpoints, note))
    return Estimate(tuple(terms))


def process_bytes(shape: Shape) -> int:
    """Return the bytes of Python, llama.cpp's code and the vocabulary in memory."""
    return _PROCESS_BYTES + _PROCESS_BYTES_PER_TOKEN * shape.n_vocab
