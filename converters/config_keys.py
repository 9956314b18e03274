"""The keys of config.json that g4 knows. A key in none of these tables is a fault.

    READ    written to the GGUF, or needed to convert tensors
    FIXED   llama.cpp's graph supports only these values
    FREE    without effect on the GGUF

Sources: transformers 5.23.0, configuration_utils.py (PreTrainedConfig) and
models/gemma4*/configuration_*.py; src/models/gemma4.cpp, llama.cpp@0c1e57098.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final


def _split_words(text: str) -> frozenset[str]:
    return frozenset(text.split())


READ_TEXT: Final = _split_words(
    """
    num_hidden_layers hidden_size intermediate_size num_attention_heads num_key_value_heads
    num_global_key_value_heads head_dim global_head_dim per_layer_config max_position_embeddings
    vocab_size layer_types sliding_window num_kv_shared_layers hidden_size_per_layer_input
    rms_norm_eps final_logit_softcapping rope_parameters use_double_wide_mlp attention_k_eq_v
    enable_moe_block num_experts top_k_experts moe_intermediate_size tie_word_embeddings
    bos_token_id eos_token_id pad_token_id
    """
)
READ_TOP: Final = _split_words(
    """
    architectures text_config vision_config audio_config backbone_hidden_size tie_word_embeddings
    bos_token_id eos_token_id pad_token_id unk_token_id sep_token_id cls_token_id mask_token_id
    _name_or_path
    """
)
READ_VISION: Final = _split_words(
    """
    hidden_size intermediate_size num_hidden_layers num_attention_heads head_dim global_head_dim
    patch_size position_embedding_size use_clipped_linears standardize mm_embed_dim mm_posemb_size
    model_patch_size pooling_kernel_size output_proj_dims
    """
)
READ_AUDIO: Final = _split_words(
    """
    hidden_size num_hidden_layers num_attention_heads subsampling_conv_channels conv_kernel_size
    use_clipped_linears output_proj_dims input_feat_size audio_embed_dim
    """
)

# Keys of every transformers config and keys for training; any part of config.json may have them.
FREE: Final = _split_words(
    """
    model_type dtype torch_dtype transformers_version initializer_range use_cache attention_dropout
    output_hidden_states output_attentions return_dict return_dict_in_generate
    chunk_size_feed_forward is_encoder_decoder id2label label2id problem_type use_return_dict
    torchscript pruned_heads _attn_implementation attn_implementation _attn_implementation_internal
    _commit_hash max_length min_length do_sample temperature top_k top_p typical_p num_beams
    num_return_sequences repetition_penalty length_penalty no_repeat_ngram_size bad_words_ids prefix
    decoder_start_token_id forced_bos_token_id forced_eos_token_id suppress_tokens
    begin_suppress_tokens early_stopping num_beam_groups diversity_penalty
    encoder_no_repeat_ngram_size exponential_decay_length_penalty remove_invalid_values
    output_scores finetuning_specific_params task_specific_params tokenizer_class tf_legacy_loss
    use_bfloat16 add_cross_attention cross_attention_hidden_size is_decoder tie_encoder_decoder
    auto_map architectures _name_or_path base_model_tp_plan boi_token_id boi_token_index
    eoi_token_id eoi_token_index image_token_id image_token_index video_token_id video_token_index
    boa_token_id boa_token_index eoa_token_id eoa_token_index audio_token_id audio_token_index
    vision_soft_tokens_per_image audio_soft_tokens_per_image audio_seq_length default_output_length
    text_config_dict
    """
)

# key -> values that llama.cpp's graph supports; null (None) means that the key is not set.
FIXED_TEXT: Final[Mapping[str, tuple[Any, ...]]] = {
    "hidden_activation": ("gelu_pytorch_tanh", None),
    "hidden_act": ("gelu_pytorch_tanh", None),
    "attention_bias": (False, None),
    "use_bidirectional_attention": (None, "vision"),  # "all" has no graph: is_causal would be false
    "is_causal": (True, None),
    "attn_logit_softcapping": (None,),
    "query_pre_attn_scalar": (None, 1, 1.0),  # the attention scale is 1 (f_attention_scale)
    "rope_scaling": (None,),
}
FIXED_VISION: Final[Mapping[str, tuple[Any, ...]]] = {
    "hidden_activation": ("gelu_pytorch_tanh", None),
    "attention_bias": (False, None),
    "rms_norm_eps": (1e-6,),  # llama.cpp's converter writes 1e-6 whatever the config says
    "pooling_kernel_size": (3,),  # tools/mtmd/clip.cpp: n_merge 3 for gemma4v and gemma4uv
}
FIXED_AUDIO: Final[Mapping[str, tuple[Any, ...]]] = {
    "hidden_act": ("silu", None),
    "rms_norm_eps": (1e-6,),
    # The constants of tools/mtmd/models/gemma4a.cpp.
    "residual_weight": (0.5,),
    "attention_chunk_size": (12,),
    "attention_context_left": (13,),
    "attention_context_right": (0,),
    "attention_logit_cap": (50.0,),
}
# Of a draft model: the centroids, which llama.cpp does not use (text.py).
FREE_TOP: Final = _split_words("use_ordered_embeddings num_centroids centroid_intermediate_top_k")
# layer_types says for each layer what sliding_window_pattern sums up, and the shape of the
# per-layer embeddings shows their vocabulary.
FREE_TEXT: Final = _split_words("sliding_window_pattern vocab_size_per_layer_input")
FREE_VISION: Final = _split_words(
    """
    num_key_value_heads max_position_embeddings rope_parameters default_output_length
    num_soft_tokens layer_norm_eps
    """
)
FREE_AUDIO: Final = _split_words(
    "attention_invalid_logits_value gradient_clipping layer_norm_eps audio_samples_per_token"
)


def check_keys(raw: Mapping[str, Any], ignore: frozenset[str], *, media: bool) -> list[str]:
    """Return a sentence for each unknown key that is set and each value that is not supported.

    `ignore` names keys that are not checked. Without `media` the encoders' keys are not checked.
    """
    text = raw.get("text_config")
    vision, audio = (raw.get(name) if media else None for name in ("vision_config", "audio_config"))
    parts: list[tuple[str, Any, frozenset[str], Mapping[str, tuple[Any, ...]]]] = [
        ("", raw, READ_TOP | FREE | FREE_TOP, {}),
        ("text_config.", text, READ_TEXT | FREE | FREE_TEXT, FIXED_TEXT),
        ("vision_config.", vision, READ_VISION | FREE | FREE_VISION, FIXED_VISION),
        ("audio_config.", audio, READ_AUDIO | FREE | FREE_AUDIO, FIXED_AUDIO),
    ]
    if not isinstance(text, Mapping):  # Gemma4ForCausalLM: the text keys stand at the top
        parts[0] = ("", raw, READ_TOP | READ_TEXT | FREE | FREE_TOP | FREE_TEXT, FIXED_TEXT)
    faults = []
    for prefix, part, known, fixed in parts:
        if not isinstance(part, Mapping):
            continue
        for key, value in part.items():
            if key in ignore or f"{prefix}{key}" in ignore:
                continue
            if key in fixed:
                if value not in fixed[key]:
                    good = " or ".join(repr(v) for v in fixed[key] if v is not None) or "null"
                    faults.append(f"{prefix}{key} is {value!r}; llama.cpp supports only {good}")
            elif key not in known and _is_set(value):
                faults.append(f"unknown key {prefix}{key} = {str(value)[:40]}")
    return faults


def _is_set(value: Any) -> bool:
    """Return whether an unknown key may have an effect: these values switch any feature off."""
    return value is not None and value is not False and value not in ([], {}, "", 0)
