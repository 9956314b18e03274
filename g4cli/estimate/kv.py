"""Compute the memory of the KV cache.

Full-attention layers keep a cell for every token of the context; sliding-window layers keep only
those of their window and of one ubatch. Layers that share another's cache have none.

Source: src/llama-kv-cache-iswa.cpp and llama-kv-cache.cpp (constructors), llama-context.cpp
(padding), llama.cpp@0c1e57098. Tests compare the figures with llama.cpp's own to the byte
(tests/golden/memory_*.json).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from g4cli.core.ggml import round_up
from g4cli.core.shape import Shape
from g4cli.estimate.options import CTX_PAD, Options


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of each stream: `full` in full-attention layers, `swa` in sliding-window layers.

    A stream is the cache of one sequence; with a unified cache there is one for all.
    """

    full: int
    swa: int
    n_stream: int


def kv_cells(shape: Shape, options: Options) -> Cells:
    """Return how many cells each kind of layer has."""
    n_ctx = round_up(options.n_ctx, CTX_PAD)
    full = n_ctx if options.kv_unified else round_up(n_ctx // options.n_seq, CTX_PAD)
    # In a unified cache every sequence needs a window of its own.
    together = options.n_seq if options.kv_unified else 1
    sliding = round_up(min(full, shape.n_swa * together + options.ubatch), CTX_PAD)
    n_stream = 1 if options.kv_unified else options.n_seq
    return Cells(full, full if options.swa_full else sliding, n_stream)


def layer_kv_bytes(shape: Shape, options: Options, layer: int) -> int:
    """Return the bytes of K and V of `layer`, counted from 0; 0 if it shares another's cache."""
    if layer >= shape.n_layer_kv:
        return 0
    cells = kv_cells(shape, options)
    n_cells = (cells.swa if shape.is_swa[layer] else cells.full) * cells.n_stream
    k_width = v_width = shape.kv_width(layer)
    if not options.flash_attn:
        # V is stored transposed then, and in every layer as wide as in the widest one.
        v_width = max(shape.kv_width(i) for i in range(shape.n_layer))
    row = options.type_k.row_bytes(k_width) + options.type_v.row_bytes(v_width)
    return n_cells * row


def kv_bytes(
    shape: Shape, options: Options, layers: Iterable[int] | None = None
) -> tuple[int, int]:
    """Return the bytes of the full-attention and of the sliding-window layers among `layers`.

    None: all layers.
    """
    sums = [0, 0]
    for layer in range(shape.n_layer) if layers is None else layers:
        sums[shape.is_swa[layer]] += layer_kv_bytes(shape, options, layer)
    return sums[0], sums[1]
