"""The `-assistant` draft models: a small text network without KV cache between two projections.

llama.cpp's names of layers that predict further tokens begin with "nextn".
Sources: conversion/gemma.py (Gemma4AssistantModel), gguf-py/gguf/tensor_mapping.py and
src/models/gemma4-assistant.cpp, llama.cpp@0c1e57098.
"""

from __future__ import annotations

from typing import Final

from g4cli.converters import text as text_network
from g4cli.converters.config import TextConfig
from g4cli.converters.names import Ignore, Row
from g4cli.core.gguf_values import Value, uint32_value

ROWS: Final[tuple[Row[TextConfig], ...]] = (
    *text_network.ROWS,
    Row(
        "pre_projection.weight",
        "nextn.pre_projection.weight",
        lambda t, _: (t.hidden, 2 * t.backbone_hidden),
    ),
    Row(
        "post_projection.weight",
        "nextn.post_projection.weight",
        lambda t, _: (t.backbone_hidden, t.hidden),
    ),
)

IGNORES: Final = (
    *text_network.IGNORES,
    # Centroids of the vocabulary let transformers skip most logits. llama.cpp computes all logits,
    # and its converter leaves the centroids out (filter_tensors, "masked_embedding").
    Ignore(r"(model\.)?masked_embedding\..*", "an index that llama.cpp does not use"),
)


def extra_keys(text: TextConfig, arch: str) -> dict[str, Value]:
    """Return the keys that a draft model has in addition to those of a text network."""
    return {
        f"{arch}.embedding_length_out": uint32_value(text.backbone_hidden),
        f"{arch}.nextn_predict_layers": uint32_value(text.n_layer),
    }
