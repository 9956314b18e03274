"""The vision encoder of E2B, E4B, 26B-A4B and 31B, and the patch embedder of the 12B.

Sources: conversion/gemma.py (Gemma4VisionAudioModel, Gemma4UnifiedVisionAudioModel),
conversion/base.py (MmprojModel) and gguf-py/gguf/tensor_mapping.py, llama.cpp@0c1e57098.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from g4cli.converters.config import Config
from g4cli.converters.media_config import EmbedderConfig, VisionConfig
from g4cli.converters.names import Ignore, Row, ShapeOf, When
from g4cli.converters.transforms import (
    ViewTransform,
    as_is,
    columns_to_chw,
    patches_to_chw,
    swap_first_two,
)
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
# The limits to which a clipped linear layer clamps its input and its output.
BOUNDS: Final = ("input_min", "input_max", "output_min", "output_max")


def require_vision(config: Config) -> VisionConfig:
    """Return the vision encoder's config; the caller has checked that there is one."""
    if config.vision is None:
        raise ValueError("no vision_config")
    return config.vision


def require_embedder(config: Config) -> EmbedderConfig:
    """Return the config of the 12B's embedders; the caller has checked that there are some."""
    if config.embedder is None:
        raise ValueError("not a unified model")
    return config.embedder


def clipped_linear_rows(source: str, target: str, shape: ShapeOf, when: When) -> tuple[Row, ...]:
    """Return the rows of a linear layer and of its four bounds, which exist where `when` is true.

    A bound that was never set is infinite (Gemma4ClippableLinear, transformers 5.23.0).
    """
    bounds = (
        Row(f"{source}.{b}", f"{target}.{b}", lambda _c, _i: (), when, f32=True, infinite=True)
        for b in BOUNDS
    )
    return (Row(f"{source}.weight", f"{target}.weight", shape), *bounds)


def _linear_rows(source: str, target: str, shape: ShapeOf) -> tuple[Row, ...]:
    return clipped_linear_rows(
        f"vision_tower.encoder.layers.{{}}.{source}",
        f"v.blk.{{}}.{target}",
        shape,
        lambda c, _: require_vision(c).clipped,
    )


def _norm_row(source: str, target: str) -> Row:
    return Row(
        f"vision_tower.encoder.layers.{{}}.{source}.weight",
        f"v.blk.{{}}.{target}.weight",
        lambda c, _: (require_vision(c).hidden,),
    )


def _qkv_shape(config: Config, _: int) -> tuple[int, ...]:
    v = require_vision(config)
    return v.n_head * v.head_dim, v.hidden


def _up_shape(config: Config, _: int) -> tuple[int, ...]:
    return require_vision(config).n_ff, require_vision(config).hidden


def _head_norm_shape(config: Config, _: int) -> tuple[int, ...]:
    return (require_vision(config).head_dim,)


def _is_standardized(config: Config, _: int) -> bool:
    return require_vision(config).standardize


ENCODER_ROWS: Final = (
    Row(
        "vision_tower.patch_embedder.input_proj.weight",
        "v.patch_embd.weight",
        lambda c, _: (require_vision(c).hidden, 3 * require_vision(c).patch ** 2),
        view=patches_to_chw,
    ),
    Row(
        "vision_tower.patch_embedder.position_embedding_table",
        "v.position_embd.weight",
        lambda c, _: (2, require_vision(c).n_positions, require_vision(c).hidden),
        f32=True,
    ),
    Row(
        "vision_tower.std_bias",
        "v.std_bias",
        lambda c, _: (require_vision(c).hidden,),
        _is_standardized,
    ),
    Row(
        "vision_tower.std_scale",
        "v.std_scale",
        lambda c, _: (require_vision(c).hidden,),
        _is_standardized,
    ),
    *_linear_rows("self_attn.q_proj", "attn_q", _qkv_shape),
    *_linear_rows("self_attn.k_proj", "attn_k", _qkv_shape),
    *_linear_rows("self_attn.v_proj", "attn_v", _qkv_shape),
    *_linear_rows(
        "self_attn.o_proj",
        "attn_out",
        lambda c, _: (
            require_vision(c).hidden,
            require_vision(c).n_head * require_vision(c).head_dim,
        ),
    ),
    *_linear_rows("mlp.gate_proj", "ffn_gate", _up_shape),
    *_linear_rows("mlp.up_proj", "ffn_up", _up_shape),
    *_linear_rows(
        "mlp.down_proj", "ffn_down", lambda c, _: (require_vision(c).hidden, require_vision(c).n_ff)
    ),
    Row(
        "vision_tower.encoder.layers.{}.self_attn.q_norm.weight",
        "v.blk.{}.attn_q_norm.weight",
        _head_norm_shape,
    ),
    Row(
        "vision_tower.encoder.layers.{}.self_attn.k_norm.weight",
        "v.blk.{}.attn_k_norm.weight",
        _head_norm_shape,
    ),
    _norm_row("input_layernorm", "ln1"),
    _norm_row("post_attention_layernorm", "attn_post_norm"),
    _norm_row("pre_feedforward_layernorm", "ln2"),
    _norm_row("post_feedforward_layernorm", "ffn_post_norm"),
    Row(
        "embed_vision.embedding_projection.weight",
        "mm.input_projection.weight",
        lambda c, _: (c.text.hidden, require_vision(c).hidden),
    ),
)


def _patch_values_shape(config: Config, _: int) -> tuple[int, ...]:
    """Return the number of values of a patch: three colors for each pixel."""
    return (3 * require_embedder(config).patch ** 2,)


def _embed_shape(config: Config, _: int) -> tuple[int, ...]:
    return (require_embedder(config).embed,)


def _weight_and_bias_rows(
    source: str, target: str, shape: ShapeOf, view: ViewTransform = as_is, merge: int = 1
) -> tuple[Row, ...]:
    return tuple(
        Row(f"vision_embedder.{source}.{end}", f"{target}.{end}", shape, view=view, merge=merge)
        for end in ("weight", "bias")
    )


# The first projection and the norm before it expect the values of a patch in the order (row,
# column, color). ggml passes them in the order (color, row, column).
EMBEDDER_ROWS: Final = (
    Row(
        "vision_embedder.patch_dense.weight",
        "v.patch_embd.weight",
        lambda c, i: (require_embedder(c).embed, *_patch_values_shape(c, i)),
        view=columns_to_chw,
        merge=3,
    ),
    Row("vision_embedder.patch_dense.bias", "v.patch_embd.bias", _embed_shape),
    *_weight_and_bias_rows(
        "patch_ln1", "v.patch_norm.1", _patch_values_shape, view=columns_to_chw, merge=3
    ),
    *_weight_and_bias_rows("patch_ln2", "v.patch_norm.2", _embed_shape),
    *_weight_and_bias_rows("pos_norm", "v.patch_norm.3", _embed_shape),
    Row(
        "vision_embedder.pos_embedding",
        "v.position_embd.weight",
        lambda c, _: (require_embedder(c).n_positions, 2, require_embedder(c).embed),
        view=swap_first_two,
        f32=True,
    ),
    Row(
        "embed_vision.embedding_projection.weight",
        "mm.input_projection.weight",
        lambda c, _: (c.text.hidden, require_embedder(c).n_out),
    ),
)


def normalize_name(name: str) -> str:
    """Return `name` without the parts that differ between releases of transformers."""
    return name.removeprefix("model.").replace(".linear.", ".")


def vision_keys(config: Config, mean: Sequence[float], std: Sequence[float]) -> dict[str, Value]:
    """Return the vision keys, but those that llama.cpp's converter writes last (`closing_keys`)."""
    if config.embedder is not None:  # the 12B has no encoder: its sizes are 0
        sizes = (config.embedder.patch_key, config.embedder.embed, 0, 0, 0)
    else:
        v = require_vision(config)
        sizes = (v.patch, v.hidden, v.n_ff, v.n_layer, v.n_head)
    patch, hidden, n_ff, n_layer, n_head = sizes
    return {
        "clip.has_vision_encoder": bool_value(True),
        "clip.vision.projection_dim": uint32_value(config.text.hidden),
        "clip.vision.image_size": uint32_value(224),  # required by llama.cpp, and not used
        "clip.vision.patch_size": uint32_value(patch),
        "clip.vision.embedding_length": uint32_value(hidden),
        "clip.vision.feed_forward_length": uint32_value(n_ff),
        "clip.vision.block_count": uint32_value(n_layer),
        "clip.vision.attention.head_count": uint32_value(n_head),
        "clip.vision.image_mean": array_value(ValueType.FLOAT32, mean),
        "clip.vision.image_std": array_value(ValueType.FLOAT32, std),
    }


def closing_keys(config: Config) -> dict[str, Value]:
    """Return the last vision keys: the projector's name and the epsilon of the norms.

    llama.cpp's converter writes 1e-6, whatever the config says.
    """
    projector = "gemma4v" if config.embedder is None else "gemma4uv"
    return {
        "clip.vision.projector_type": string_value(projector),
        "clip.vision.attention.layer_norm_epsilon": float32_value(1e-6),
    }
