"""The text network: its tensors and its keys.

Sources: conversion/gemma.py (Gemma4Model), conversion/base.py (TextModel),
gguf-py/gguf/tensor_mapping.py and src/models/gemma4.cpp, llama.cpp@0c1e57098. The order of the keys
is that of llama.cpp's converter.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from g4cli.converters.config import Config, TextConfig
from g4cli.converters.names import Ignore, Row, When, always_true
from g4cli.core.gguf_values import Value, ValueType, array_value, float32_value, uint32_value


def _has_ple(config: Config, _: int) -> bool:
    return config.text.hidden_per_layer > 0


def _has_moe(config: Config, _: int) -> bool:
    return config.text.moe


def _owns_kv(config: Config, layer: int) -> bool:
    return not config.text.is_shared(layer)


def _owns_v(config: Config, layer: int) -> bool:
    return not config.text.is_shared(layer) and not config.text.k_is_v(layer)


def _has_v(config: Config, layer: int) -> bool:
    return not config.text.k_is_v(layer)


def _is_untied(config: Config, _: int) -> bool:
    return not config.text.tied


def _hidden_shape(config: Config, _: int) -> tuple[int, ...]:
    return (config.text.hidden,)


def _norm_row(source: str, target: str, when: When = always_true) -> Row:
    return Row(f"layers.{{}}.{source}.weight", f"blk.{{}}.{target}.weight", _hidden_shape, when)


def _n_expert(config: TextConfig) -> int:
    return config.n_expert or 0


def _n_ff_expert(config: TextConfig) -> int:
    return config.n_ff_expert or 0


# Layers with shared KV need no key and value projections, but published checkpoints have them.
ROWS: Final = (
    Row("embed_tokens.weight", "token_embd.weight", lambda c, _: (c.text.n_vocab, c.text.hidden)),
    Row(
        "embed_tokens_per_layer.weight",
        "per_layer_token_embd.weight",
        lambda c, _: (c.text.n_vocab, c.text.n_layer * c.text.hidden_per_layer),
        _has_ple,
    ),
    Row(
        "per_layer_model_projection.weight",
        "per_layer_model_proj.weight",
        lambda c, _: (c.text.n_layer * c.text.hidden_per_layer, c.text.hidden),
        _has_ple,
    ),
    Row(
        "per_layer_projection_norm.weight",
        "per_layer_proj_norm.weight",
        lambda c, _: (c.text.hidden_per_layer,),
        _has_ple,
    ),
    Row("norm.weight", "output_norm.weight", _hidden_shape),
    Row(
        "lm_head.weight",
        "output.weight",
        lambda c, _: (c.text.n_vocab, c.text.hidden),
        needed=_is_untied,
    ),
    _norm_row("input_layernorm", "attn_norm"),
    Row(
        "layers.{}.self_attn.q_proj.weight",
        "blk.{}.attn_q.weight",
        lambda c, i: (c.text.n_head * c.text.head_dim_of(i), c.text.hidden),
    ),
    Row(
        "layers.{}.self_attn.k_proj.weight",
        "blk.{}.attn_k.weight",
        lambda c, i: (c.text.n_head_kv_of(i) * c.text.head_dim_of(i), c.text.hidden),
        needed=_owns_kv,
    ),
    Row(
        "layers.{}.self_attn.v_proj.weight",
        "blk.{}.attn_v.weight",
        lambda c, i: (c.text.n_head_kv_of(i) * c.text.head_dim_of(i), c.text.hidden),
        _has_v,
        needed=_owns_v,
    ),
    Row(
        "layers.{}.self_attn.o_proj.weight",
        "blk.{}.attn_output.weight",
        lambda c, i: (c.text.hidden, c.text.n_head * c.text.head_dim_of(i)),
    ),
    Row(
        "layers.{}.self_attn.q_norm.weight",
        "blk.{}.attn_q_norm.weight",
        lambda c, i: (c.text.head_dim_of(i),),
    ),
    Row(
        "layers.{}.self_attn.k_norm.weight",
        "blk.{}.attn_k_norm.weight",
        lambda c, i: (c.text.head_dim_of(i),),
        needed=_owns_kv,
    ),
    _norm_row("post_attention_layernorm", "post_attention_norm"),
    _norm_row("pre_feedforward_layernorm", "ffn_norm"),
    _norm_row("post_feedforward_layernorm", "post_ffw_norm"),
    Row(
        "layers.{}.mlp.gate_proj.weight",
        "blk.{}.ffn_gate.weight",
        lambda c, i: (c.text.n_ff_of(i), c.text.hidden),
    ),
    Row(
        "layers.{}.mlp.up_proj.weight",
        "blk.{}.ffn_up.weight",
        lambda c, i: (c.text.n_ff_of(i), c.text.hidden),
    ),
    Row(
        "layers.{}.mlp.down_proj.weight",
        "blk.{}.ffn_down.weight",
        lambda c, i: (c.text.hidden, c.text.n_ff_of(i)),
    ),
    Row("layers.{}.layer_scalar", "blk.{}.layer_output_scale.weight", lambda _c, _i: (1,)),
    # per-layer embeddings
    Row(
        "layers.{}.per_layer_input_gate.weight",
        "blk.{}.inp_gate.weight",
        lambda c, _: (c.text.hidden_per_layer, c.text.hidden),
        _has_ple,
    ),
    Row(
        "layers.{}.per_layer_projection.weight",
        "blk.{}.proj.weight",
        lambda c, _: (c.text.hidden, c.text.hidden_per_layer),
        _has_ple,
    ),
    _norm_row("post_per_layer_input_norm", "post_norm", _has_ple),
    # mixture of experts
    _norm_row("pre_feedforward_layernorm_2", "pre_ffw_norm_2", _has_moe),
    _norm_row("post_feedforward_layernorm_1", "post_ffw_norm_1", _has_moe),
    _norm_row("post_feedforward_layernorm_2", "post_ffw_norm_2", _has_moe),
    Row(
        "layers.{}.router.proj.weight",
        "blk.{}.ffn_gate_inp.weight",
        lambda c, _: (_n_expert(c.text), c.text.hidden),
        _has_moe,
        f32=True,
    ),
    Row("layers.{}.router.scale", "blk.{}.ffn_gate_inp.scale", _hidden_shape, _has_moe),
    Row(
        "layers.{}.router.per_expert_scale",
        "blk.{}.ffn_down_exps.scale",
        lambda c, _: (_n_expert(c.text),),
        _has_moe,
    ),
    Row(
        "layers.{}.experts.gate_up_proj",
        "blk.{}.ffn_gate_up_exps.weight",
        lambda c, _: (_n_expert(c.text), 2 * _n_ff_expert(c.text), c.text.hidden),
        _has_moe,
    ),
    Row(
        "layers.{}.experts.down_proj",
        "blk.{}.ffn_down_exps.weight",
        lambda c, _: (_n_expert(c.text), c.text.hidden, _n_ff_expert(c.text)),
        _has_moe,
    ),
)

IGNORES: Final = (
    Ignore(
        r"(model\.)?(vision_tower|embed_vision|vision_embedder)\..*", "vision: g4 convert --mmproj"
    ),
    Ignore(r"(model\.)?(audio_tower|embed_audio)\..*", "audio: g4 convert --mmproj"),
    Ignore(r".*\.rotary_emb\..*inv_freq", "computed from the config"),
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


def hparam_keys(config: Config, arch: str, file_type: int) -> dict[str, Value]:
    """Return the network's keys and general.file_type, in the order of llama.cpp's converter."""
    text = config.text
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
        "expert_count": None if text.n_expert is None else uint32_value(text.n_expert),
        "expert_used_count": None
        if text.n_expert_used is None
        else uint32_value(text.n_expert_used),
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
        "expert_feed_forward_length": None
        if text.n_ff_expert is None
        else uint32_value(text.n_ff_expert),
        "rope.dimension_count": uint32_value(text.head_dim_full),
        "rope.dimension_count_swa": uint32_value(text.head_dim),
    }
    return {
        name if name.startswith("general.") else f"{arch}.{name}": value
        for name, value in keys.items()
        if value is not None
    }
