"""The KV cache of a Gemma 4 network, to the byte.

Full-attention layers keep a cell for every token of the context; sliding layers keep only their window and
one ubatch. Layers that share another's cache own nothing.

Source: src/llama-kv-cache-iswa.cpp and llama-kv-cache.cpp (constructors), llama-context.cpp (padding),
llama.cpp@0c1e57098. Proved equal to llama.cpp's own figures by tests/golden/memory_*.json.
"""

from __future__ import annotations

from dataclasses import dataclass

from g4cli.core.shape import Shape
from g4cli.estimate.options import CTX_PAD, Options


def padded(n: int, step: int = CTX_PAD) -> int:
    """Return `n` rounded up to a multiple of `step`."""
    return -(-n // step) * step


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of each stream's cache: `full` for full-attention layers, `swa` for sliding ones."""

    full: int
    swa: int
    n_stream: int


def kv_cells(shape: Shape, options: Options) -> Cells:
    """Return how many cells each kind of layer keeps, per stream."""
    n_ctx = padded(options.n_ctx)
    full = n_ctx if options.kv_unified else padded(n_ctx // options.n_seq)
    together = options.n_seq if options.kv_unified else 1
    sliding = padded(min(full, shape.n_swa * together + options.ubatch))
    return Cells(
        full, full if options.swa_full else sliding, 1 if options.kv_unified else options.n_seq
    )


def layer_kv_bytes(shape: Shape, options: Options, layer: int) -> int:
    """Return the bytes of `layer`'s K and V together; 0 if it shares another's."""
    if layer >= shape.n_layer_kv:
        return 0
    cells = kv_cells(shape, options)
    n_cells = (cells.swa if shape.is_swa[layer] else cells.full) * cells.n_stream
    k_width = v_width = shape.kv_width(layer)
    if (
        not options.flash_attn
    ):  # V lies transposed then, and every layer's is as wide as the widest one's
        v_width = max(shape.kv_width(i) for i in range(shape.n_layer))
    row = options.type_k.row_bytes(k_width) + options.type_v.row_bytes(v_width)
    return n_cells * row


def kv_bytes(shape: Shape, options: Options) -> tuple[int, int]:
    """Return the bytes of the full-attention layers' caches and of the sliding layers'."""
    per_layer = [layer_kv_bytes(shape, options, i) for i in range(shape.n_layer)]
    sliding = sum(n for n, is_swa in zip(per_layer, shape.is_swa, strict=True) if is_swa)
    return sum(per_layer) - sliding, sliding
