"""The draft model (`gemma4-assistant`) that proposes tokens for a Gemma 4 model.

It has four layers between two projections, and no keys and values of its own: it reads the last
hidden state and the KV cache of its target. Sources: src/models/gemma4-assistant.cpp and
conversion/gemma.py (Gemma4AssistantModel), llama.cpp@0c1e57098. The inventory is pinned to the
sizes of published files by tests/unit/core/test_drafter_shape.py.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from g4cli.core.errors import BadGGUF
from g4cli.core.file_kind import DRAFT
from g4cli.core.gguf_header import Header
from g4cli.core.inventory import TOKEN_EMBD, TensorDims, text_tensors, unused_kv
from g4cli.core.shape import LAYER_LIMITS, Keys, LayersShape, Shape


@dataclass(frozen=True, slots=True)
class DraftShape(LayersShape):
    """The shape of a draft model.

    `n_embd_out` is the hidden size of its target, the model that it drafts for.
    """

    n_embd_out: int


def draft_shape_of(header: Header) -> DraftShape:
    """Return the shape that the header of a draft model declares. Raises BadGGUF for others."""
    keys = Keys(header, DRAFT, "a draft model of Gemma 4")
    n_layer = keys.read_number("block_count", LAYER_LIMITS, what="layers")
    embedding = header.tensors.get(TOKEN_EMBD)
    if embedding is None or len(embedding.shape) != 2:
        raise BadGGUF(header.path, "the draft model has no embeddings", field=TOKEN_EMBD)
    head_dim = keys.read_number("attention.key_length")
    return DraftShape(
        n_layer=n_layer,
        n_embd=keys.read_number("embedding_length"),
        n_embd_out=keys.read_number("embedding_length_out"),
        n_vocab=embedding.shape[1],
        n_head=keys.read_per_layer("attention.head_count", n_layer),
        n_ff=keys.read_per_layer("feed_forward_length", n_layer),
        is_swa=tuple(map(bool, keys.read_per_layer("attention.sliding_window_pattern", n_layer))),
        head_dim=head_dim,
        head_dim_swa=keys.read_number("attention.key_length_swa", default=head_dim),
    )


def draft_tensors(shape: DraftShape) -> tuple[TensorDims, ...]:
    """Return every tensor of a draft model's GGUF that llama.cpp reads.

    That is a text network all of whose layers read the KV cache of another, and two projections.
    """
    layers = {field.name: getattr(shape, field.name) for field in fields(LayersShape)}
    text = Shape(
        **layers, n_ctx_train=0, n_head_kv=shape.n_head, n_swa=0, n_shared_kv=shape.n_layer
    )
    unused = unused_kv(text)
    return (
        TensorDims("nextn.pre_projection.weight", (2 * shape.n_embd_out, shape.n_embd)),
        TensorDims("nextn.post_projection.weight", (shape.n_embd, shape.n_embd_out)),
        *(tensor for tensor in text_tensors(text) if tensor.name not in unused),
    )
