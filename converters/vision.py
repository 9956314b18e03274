"""The vision encoder of E2B, E4B, 26B-A4B and 31B, and the patch embedder of the 12B.

Sources: conversion/gemma.py (Gemma4VisionAudioModel, Gemma4UnifiedVisionAudioModel),
conversion/base.py (MmprojModel) and gguf-py/gguf/tensor_mapping.py, llama.cpp@0c1e57098.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

from g4cli.converters.media_config import AudioConfig, EmbedderConfig, VisionConfig
from g4cli.converters.names import Ignore, Row, ShapeOf
from g4cli.converters.transforms import ViewTransform, as_is, move_colors_first, swap_first_two
from g4cli.core.gguf_values import (
    Value,
    ValueType,
    array_value,
    bool_value,
    float32_value,
    string_value,
    uint32_value,
)

IGNORES: Final = (
    Ignore(r"(model\.)?language_model\..*|lm_head\..*", "text: g4 convert without --mmproj"),
    Ignore(r".*\.rotary_emb\..*inv_freq", "computed from the config"),
)


Encoder = TypeVar("Encoder", VisionConfig, AudioConfig)


def _is_clipped(encoder: VisionConfig | AudioConfig, _: int) -> bool:
    return encoder.clipped


def clipped_linear_rows(
    source: str, target: str, shape: ShapeOf[Encoder]
) -> tuple[Row[Encoder], ...]:
    """Return the rows of a linear layer and, if it is clipped, of the bounds of its values.

    A bound that was never set is infinite (Gemma4ClippableLinear, transformers 5.23.0).
    """
    rows: list[Row[Encoder]] = [Row(f"{source}.weight", f"{target}.weight", shape)]
    for end in ("input_min", "input_max", "output_min", "output_max"):
        name, new_name = f"{source}.{end}", f"{target}.{end}"
        rows.append(Row(name, new_name, lambda _e, _i: (), _is_clipped, f32=True, infinite=True))
    return tuple(rows)


def _linear_rows(
    source: str, target: str, shape: ShapeOf[VisionConfig]
) -> tuple[Row[VisionConfig], ...]:
    return clipped_linear_rows(
        f"vision_tower.encoder.layers.{{}}.{source}", f"v.blk.{{}}.{target}", shape
    )


def _hidden_shape(vision: VisionConfig, _: int) -> tuple[int, ...]:
    return (vision.hidden,)


def _layer_row(
    source: str, target: str, shape: ShapeOf[VisionConfig] = _hidden_shape
) -> Row[VisionConfig]:
    """Return the row of a weight that each layer has; by default it is a norm's vector."""
    return Row(
        f"vision_tower.encoder.layers.{{}}.{source}.weight", f"v.blk.{{}}.{target}.weight", shape
    )


def _qkv_shape(vision: VisionConfig, _: int) -> tuple[int, ...]:
    return vision.n_head * vision.head_dim, vision.hidden


def _head_shape(vision: VisionConfig, _: int) -> tuple[int, ...]:
    return (vision.head_dim,)


def _is_standardized(vision: VisionConfig, _: int) -> bool:
    return vision.standardize


ENCODER_ROWS: Final[tuple[Row[VisionConfig], ...]] = (
    Row(
        "vision_tower.patch_embedder.input_proj.weight",
        "v.patch_embd.weight",
        lambda v, _: (v.hidden, 3 * v.patch**2),
        view=move_colors_first,
    ),
    Row(
        "vision_tower.patch_embedder.position_embedding_table",
        "v.position_embd.weight",
        lambda v, _: (2, v.n_positions, v.hidden),
        f32=True,
    ),
    Row("vision_tower.std_bias", "v.std_bias", _hidden_shape, _is_standardized),
    Row("vision_tower.std_scale", "v.std_scale", _hidden_shape, _is_standardized),
    *_linear_rows("self_attn.q_proj", "attn_q", _qkv_shape),
    *_linear_rows("self_attn.k_proj", "attn_k", _qkv_shape),
    *_linear_rows("self_attn.v_proj", "attn_v", _qkv_shape),
    *_linear_rows("self_attn.o_proj", "attn_out", lambda v, _: (v.hidden, v.n_head * v.head_dim)),
    *_linear_rows("mlp.gate_proj", "ffn_gate", lambda v, _: (v.n_ff, v.hidden)),
    *_linear_rows("mlp.up_proj", "ffn_up", lambda v, _: (v.n_ff, v.hidden)),
    *_linear_rows("mlp.down_proj", "ffn_down", lambda v, _: (v.hidden, v.n_ff)),
    _layer_row("self_attn.q_norm", "attn_q_norm", _head_shape),
    _layer_row("self_attn.k_norm", "attn_k_norm", _head_shape),
    _layer_row("input_layernorm", "ln1"),
    _layer_row("post_attention_layernorm", "attn_post_norm"),
    _layer_row("pre_feedforward_layernorm", "ln2"),
    _layer_row("post_feedforward_layernorm", "ffn_post_norm"),
    Row(
        "embed_vision.embedding_projection.weight",
        "mm.input_projection.weight",
        lambda v, _: (v.text_hidden, v.hidden),
    ),
)


def _patch_values_shape(embedder: EmbedderConfig, _: int) -> tuple[int, ...]:
    """Return the number of values of a patch: three colors for each pixel."""
    return (3 * embedder.patch**2,)


def _embed_shape(embedder: EmbedderConfig, _: int) -> tuple[int, ...]:
    return (embedder.embed,)


def _weight_and_bias_rows(
    source: str,
    target: str,
    shape: ShapeOf[EmbedderConfig],
    view: ViewTransform = as_is,
    merge: int = 1,
) -> tuple[Row[EmbedderConfig], ...]:
    return tuple(
        Row(f"vision_embedder.{source}.{end}", f"{target}.{end}", shape, view=view, merge=merge)
        for end in ("weight", "bias")
    )


EMBEDDER_ROWS: Final[tuple[Row[EmbedderConfig], ...]] = (
    Row(
        "vision_embedder.patch_dense.weight",
        "v.patch_embd.weight",
        lambda e, i: (e.embed, *_patch_values_shape(e, i)),
        view=move_colors_first,
        merge=3,
    ),
    Row("vision_embedder.patch_dense.bias", "v.patch_embd.bias", _embed_shape),
    *_weight_and_bias_rows(
        "patch_ln1", "v.patch_norm.1", _patch_values_shape, move_colors_first, 3
    ),
    *_weight_and_bias_rows("patch_ln2", "v.patch_norm.2", _embed_shape),
    *_weight_and_bias_rows("pos_norm", "v.patch_norm.3", _embed_shape),
    Row(
        "vision_embedder.pos_embedding",
        "v.position_embd.weight",
        lambda e, _: (e.n_positions, 2, e.embed),
        view=swap_first_two,
        f32=True,
    ),
    Row(
        "embed_vision.embedding_projection.weight",
        "mm.input_projection.weight",
        lambda e, _: (e.text_hidden, e.n_out),
    ),
)


def normalize_name(name: str) -> str:
    """Return `name` without the parts that differ between releases of transformers.

    ".linear." is the weight inside of a Gemma4ClippableLinear.
    """
    return name.removeprefix("model.").replace(".linear.", ".")


def vision_keys(
    network: VisionConfig | EmbedderConfig, mean: Sequence[float], std: Sequence[float]
) -> dict[str, Value]:
    """Return the vision keys, but those that llama.cpp's converter writes last (`closing_keys`).

    `mean` and `std` are those of the pixels, for each color.
    """
    if isinstance(network, EmbedderConfig):  # it has no layers
        patch, hidden, n_ff, n_layer, n_head = network.patch_key, network.embed, 0, 0, 0
    else:
        patch, hidden, n_ff = network.patch, network.hidden, network.n_ff
        n_layer, n_head = network.n_layer, network.n_head
    return {
        "clip.has_vision_encoder": bool_value(True),
        "clip.vision.projection_dim": uint32_value(network.text_hidden),
        "clip.vision.image_size": uint32_value(224),  # required by llama.cpp, and not used
        "clip.vision.patch_size": uint32_value(patch),
        "clip.vision.embedding_length": uint32_value(hidden),
        "clip.vision.feed_forward_length": uint32_value(n_ff),
        "clip.vision.block_count": uint32_value(n_layer),
        "clip.vision.attention.head_count": uint32_value(n_head),
        "clip.vision.image_mean": array_value(ValueType.FLOAT32, mean),
        "clip.vision.image_std": array_value(ValueType.FLOAT32, std),
    }


def closing_keys(network: VisionConfig | EmbedderConfig) -> dict[str, Value]:
    """Return the last vision keys: the projector's name and the epsilon of the norms.

    llama.cpp's converter writes 1e-6, whatever the config says.
    """
    projector = "gemma4uv" if isinstance(network, EmbedderConfig) else "gemma4v"
    return {
        "clip.vision.projector_type": string_value(projector),
        "clip.vision.attention.layer_norm_epsilon": float32_value(1e-6),
    }
