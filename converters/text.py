"""The text network and the draft models (assistants): their tensors and their keys.

A draft model is a small text network without KV cache between two projections; llama.cpp's names of
layers that predict further tokens begin with "nextn".

Sources: conversion/gemma.py (Gemma4Model, Gemma4AssistantModel), conversion/base.py (TextModel),
gguf-py/gguf/tensor_mapping.py, src/models/gemma4.cpp and gemma4-assistant.cpp, llama.cpp@0c1e57098.
The order of the keys is that of llama.cpp's converter.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from g4cli.converters.config import TextConfig
from g4cli.converters.names import Ignore, Row, ShapeOf, When, always_true
from g4cli.core.gguf_values import Value, ValueType, array_value, float32_value, uint32_value


def _has_ple(text: TextConfig, _: int) -> bool:
    return text.hidden_per_layer > 0


def _has_moe(text: TextConfig, _: int) -> bool:
    return text.moe


def _owns_kv(text: TextConfig, layer: int) -> bool:
    return not text.is_shared(layer)


def _hidden_shape(text: TextConfig, _: int) -> tuple[int, ...]:
    return (text.hidden,)


def _head_shape(text: TextConfig, layer: int) -> tuple[int, ...]:
    return (text.head_dim_of(layer),)


def _kv_shape(text: TextConfig, layer: int) -> tuple[int, ...]:
    return text.n_head_kv_of(layer) * text.head_dim_of(layer), text.hidden


def _layer_row(
    source: str,
    target: str,
    shape: ShapeOf[TextConfig] = _hidden_shape,
    when: When[TextConfig] = always_true,
    needed: When[TextConfig] = always_true,
) -> Row[TextConfig]:
    """Return the row of a weight that each layer has; by default it is a norm's vector."""
    return Row(f"layers.{{}}.{source}.weight", f"blk.{{}}.{target}.weight", shape, when, needed)


def _expert_row(
    source: str, target: str, shape: ShapeOf[TextConfig], *, f32: bool = False
) -> Row[TextConfig]:
    """Return the row of a tensor that each layer of a mixture of experts has."""
    return Row(f"layers.{{}}.{source}", f"blk.{{}}.{target}", shape, _has_moe, f32=f32)


# Layers with shared KV need no key and value projections, but published checkpoints have them.
ROWS: Final[tuple[Row[TextConfig], ...]] = (
    Row("embed_tokens.weight", "token_embd.weight", lambda t, _: (t.n_vocab, t.hidden)),
    Row(
        "embed_tokens_per_layer.weight",
        "per_layer_token_embd.weight",
        lambda t, _: (t.n_vocab, t.n_layer * t.hidden_per_layer),
        _has_ple,
    ),
    Row(
        "per_layer_model_projection.weight",
        "per_layer_model_proj.weight",
        lambda t, _: (t.n_layer * t.hidden_per_layer, t.hidden),
        _has_ple,
    ),
    Row(
        "per_layer_projection_norm.weight",
        "per_layer_proj_norm.weight",
        lambda t, _: (t.hidden_per_layer,),
        _has_ple,
    ),
    Row("norm.weight", "output_norm.weight", _hidden_shape),
    Row(
        "lm_head.weight",
        "output.weight",
        lambda t, _: (t.n_vocab, t.hidden),
        needed=lambda t, _: not t.tied,
    ),
    _layer_row("input_layernorm", "attn_norm"),
    _layer_row("self_attn.q_proj", "attn_q", lambda t, i: (t.n_head * t.head_dim_of(i), t.hidden)),
    _layer_row("self_attn.k_proj", "attn_k", _kv_shape, needed=_owns_kv),
    _layer_row("self_attn.v_proj", "attn_v", _kv_shape, lambda t, i: not t.k_is_v(i), _owns_kv),
    _layer_row(
        "self_attn.o_proj", "attn_output", lambda t, i: (t.hidden, t.n_head * t.head_dim_of(i))
    ),
    _layer_row("self_attn.q_norm", "attn_q_norm", _head_shape),
    _layer_row("self_attn.k_norm", "attn_k_norm", _head_shape, needed=_owns_kv),
    _layer_row("post_attention_layernorm", "post_attention_norm"),
    _layer_row("pre_feedforward_layernorm", "ffn_norm"),
    _layer_row("post_feedforward_layernorm", "post_ffw_norm"),
    _layer_row("mlp.gate_proj", "ffn_gate", lambda t, i: (t.n_ff_of(i), t.hidden)),
    _layer_row("mlp.up_proj", "ffn_up", lambda t, i: (t.n_ff_of(i), t.hidden)),
    _layer_row("mlp.down_proj", "ffn_down", lambda t, i: (t.hidden, t.n_ff_of(i))),
    Row("layers.{}.layer_scalar", "blk.{}.layer_output_scale.weight", lambda _t, _i: (1,)),
    # per-layer embeddings
    _layer_row(
        "per_layer_input_gate", "inp_gate", lambda t, _: (t.hidden_per_layer, t.hidden), _has_ple
    ),
    _layer_row(
        "per_layer_projection", "proj", lambda t, _: (t.hidden, t.hidden_per_layer), _has_ple
    ),
    _layer_row("post_per_layer_input_norm", "post_norm", when=_has_ple),
    # mixture of experts
    _layer_row("pre_feedforward_layernorm_2", "pre_ffw_norm_2", when=_has_moe),
    _layer_row("post_feedforward_layernorm_1", "post_ffw_norm_1", when=_has_moe),
    _layer_row("post_feedforward_layernorm_2", "post_ffw_norm_2", when=_has_moe),
    _expert_row(
        "router.proj.weight", "ffn_gate_inp.weight", lambda t, _: (t.n_expert, t.hidden), f32=True
    ),
    _expert_row("router.scale", "ffn_gate_inp.scale", _hidden_shape),
    _expert_row("router.per_expert_scale", "ffn_down_exps.scale", lambda t, _: (t.n_expert,)),
    _expert_row(
        "experts.gate_up_proj",
        "ffn_gate_up_exps.weight",
        lambda t, _: (t.n_expert, 2 * t.n_ff_expert, t.hidden),
    ),
    _expert_row(
        "experts.down_proj",
        "ffn_down_exps.weight",
        lambda t, _: (t.n_expert, t.hidden, t.n_ff_expert),
    ),
)

ASSISTANT_ROWS: Final[tuple[Row[TextConfig], ...]] = (
    *ROWS,
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
    Ignore(
        r"(model\.)?(vision_tower|embed_vision|vision_embedder)\..*", "vision: g4 convert --mmproj"
    ),
    Ignore(r"(model\.)?(audio_tower|embed_audio)\..*", "audio: g4 convert --mmproj"),
    Ignore(r".*\.rotary_emb\..*inv_freq", "computed from the config"),
)

ASSISTANT_IGNORES: Final = (
    *IGNORES,
    # Centroids of the vocabulary let transformers skip most logits. llama.cpp computes all logits,
    # and its converter leaves the centroids out (filter_tensors).
    Ignore(r"(model\.)?masked_embedding\..*", "an index that llama.cpp does not use"),
)


def normalize_name(name: str) -> str:
    """Return `name` without the prefixes that differ between releases of transformers."""
    return name.replace("language_model.", "").removeprefix("model.")


def rope_freqs(text: TextConfig) -> NDArray[np.float32]:
    """Return the factors that divide the rotary frequencies of the global layers, float32.

    Proportional RoPE rotates only the first `partial_full` of the frequencies. ggml has no such
    mode; instead, their factor is 1, and that of the others 1e30, which makes their rotation zero
    (conversion/gemma.py, generate_extra_tensors).
    """
    rotated = int(text.head_dim_full * text.partial_full / 2)
    factors = np.full(text.head_dim_full // 2, 1e30, dtype=np.float32)
    factors[:rotated] = 1.0
    return factors


def hparam_keys(text: TextConfig, arch: str, file_type: int) -> dict[str, Value]:
    """Return the network's keys and general.file_type, in the order of llama.cpp's converter."""
    int_array = ValueType.INT32
    n_ff = (
        array_value(int_array, [text.n_ff_of(i) for i in range(text.n_layer)])
        if text.double_wide
        else uint32_value(text.n_ff)
    )
    n_head_kv = (
        uint32_value(text.n_head_kv)
        if text.n_head_kv_full is None
        else array_value(int_array, [text.n_head_kv_of(i) for i in range(text.n_layer)])
    )
    keys = {
        "block_count": uint32_value(text.n_layer),
        "context_length": uint32_value(text.n_ctx),
        "embedding_length": uint32_value(text.hidden),
        "feed_forward_length": n_ff,
        "attention.head_count": uint32_value(text.n_head),
        "attention.head_count_kv": n_head_kv,
        "rope.freq_base": float32_value(text.theta_full),
        "rope.freq_base_swa": float32_value(text.theta_swa),
        "attention.layer_norm_rms_epsilon": float32_value(text.rms_eps),
        "expert_count": _uint32_or_none(text.n_expert),
        "expert_used_count": _uint32_or_none(text.n_expert_used),
        "attention.key_length": uint32_value(text.head_dim_full),
        "attention.value_length": uint32_value(text.head_dim_full),
        "general.file_type": uint32_value(file_type),
        "final_logit_softcapping": None if text.softcap is None else float32_value(text.softcap),
        "attention.sliding_window": uint32_value(text.sliding_window),
        "attention.shared_kv_layers": uint32_value(text.n_shared_kv),
        "embedding_length_per_layer_input": uint32_value(text.hidden_per_layer),
        "attention.sliding_window_pattern": array_value(ValueType.BOOL, text.is_swa),
        "attention.key_length_swa": uint32_value(text.head_dim),
        "attention.value_length_swa": uint32_value(text.head_dim),
        "expert_feed_forward_length": _uint32_or_none(text.n_ff_expert),
        "rope.dimension_count": uint32_value(text.head_dim_full),
        "rope.dimension_count_swa": uint32_value(text.head_dim),
    }
    return {
        name if name.startswith("general.") else f"{arch}.{name}": value
        for name, value in keys.items()
        if value is not None
    }


def assistant_keys(text: TextConfig, arch: str) -> dict[str, Value]:
    """Return the keys that a draft model has in addition to those of a text network."""
    return {
        f"{arch}.embedding_length_out": uint32_value(text.backbone_hidden),
        f"{arch}.nextn_predict_layers": uint32_value(text.n_layer),
    }


def _uint32_or_none(number: int) -> Value | None:
    return uint32_value(number) if number else None
