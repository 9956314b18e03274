"""llama.cpp's compute buffer: the scratch of one ubatch through the network."""

from __future__ import annotations

from g4cli.core.shape import Shape
from g4cli.estimate.kv import kv_cells
from g4cli.estimate.options import Options


def compute_bytes(shape: Shape, options: Options) -> int:
    """Return the bytes of the scratch for the largest ubatch."""
    tokens, cells = options.ubatch, kv_cells(shape, options)
    widest = max(range(shape.n_layer), key=lambda i: shape.n_head[i] * shape.head_dim_of(i))
    attention = 3 * shape.n_head[widest] * shape.head_dim_of(widest)
    feed_forward = 2 * max(shape.n_ff) + shape.n_expert_used * 3 * shape.n_ff_expert
    per_token = 3 * shape.n_embd + max(attention, feed_forward) + 2 * shape.n_embd_per_layer * shape.n_layer
    masks = tokens * (cells.full + cells.swa) * (2 if options.flash_attn else 4)
    scores = 0 if options.flash_attn else 4 * tokens * cells.full * max(shape.n_head)
    return 4 * tokens * per_token + masks + scores + 4 * options.outputs * shape.n_vocab


def output_bytes(shape: Shape, options: Options) -> int:
    """Return the bytes of the buffer that a context hands its logits out of: one row per sequence."""
    return 4 * shape.n_vocab * options.n_seq
