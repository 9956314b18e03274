"""The bundled checkpoint as a GGUF, made without the code of `converters`.

Used where a test needs a real network that llama.cpp runs and does not test the conversion itself.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.support.builders.gguf import BF16, F32, Q8_0, Key, Tensor, build_gguf, rope_table
from tests.support.paths import TINY

# Hugging Face name after "layers.N." -> GGUF name after "blk.N."
LAYER_NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "layer_scalar": "layer_output_scale.weight",
    "mlp.down_proj.weight": "ffn_down.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight",
    "mlp.up_proj.weight": "ffn_up.weight",
    "per_layer_input_gate.weight": "inp_gate.weight",
    "per_layer_projection.weight": "proj.weight",
    "post_attention_layernorm.weight": "post_attention_norm.weight",
    "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
    "post_per_layer_input_norm.weight": "post_norm.weight",
    "pre_feedforward_layernorm.weight": "ffn_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
}
MODEL_NAMES = {
    "embed_tokens.weight": "token_embd.weight",
    "embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "norm.weight": "output_norm.weight",
    "per_layer_model_projection.weight": "per_layer_model_proj.weight",
    "per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
}
# Control tokens that users may see: USER_DEFINED instead of CONTROL (reference: Gemma 4's own
# files).
VISIBLE = {"<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>',
           "<|channel>", "<channel|>"}  # fmt: skip


def build_tiny(more_keys: Sequence[Key] = ()) -> bytes:
    """Return the BF16 GGUF of the bundled checkpoint, with `more_keys` at the end of its header."""
    keys, tensors = tiny_parts()
    return build_gguf([*keys, *more_keys], tensors)


def build_tiny_f32() -> bytes:
    """Return it with every matrix as F32: the same numbers, and the products round least."""
    keys, tensors = tiny_parts()
    return build_gguf(keys, [as_f32(tensor) for tensor in tensors])


def as_f32(tensor: Tensor) -> Tensor:
    """Return a BF16 tensor as F32, which holds the same numbers; any other tensor as it is."""
    name, kind, ne, data = tensor
    if kind != BF16:
        return tensor
    values = np.frombuffer(data or b"", "<u2").astype("<u4") << 16
    return name, F32, ne, values.tobytes()


def build_tiny_q8() -> bytes:
    """Return it with every matrix as Q8_0, also those that quantizers leave alone.

    llama.cpp's CPU kernels give such a network the same scores for one token and for four, bit for
    bit.
    """
    keys, tensors = tiny_parts()
    return build_gguf(keys, [_q8_0(tensor) if tensor[1] == BF16 else tensor for tensor in tensors])


def _q8_0(tensor: Tensor) -> Tensor:
    name, _, ne, data = tensor
    values = (np.frombuffer(data or b"", "<u2").astype("<u4") << 16).view("<f4").reshape(-1, 32)
    scale = (np.abs(values).max(axis=1, keepdims=True) / 127).astype("<f2")
    whole = np.round(values / np.maximum(scale.astype("<f4"), 1e-30)).clip(-127, 127).astype("<i1")
    return name, Q8_0, ne, np.hstack([scale.view("<i1"), whole]).tobytes()


def tiny_parts() -> tuple[list[Key], list[Tensor]]:
    """Return its keys and tensors, for tests that change one."""
    text = json.loads((TINY / "config.json").read_text())["text_config"]
    return [*_network_keys(text), *_tokenizer_keys()], list(_tensors(text))


def _network_keys(text: dict[str, Any]) -> list[Key]:
    n_layer, shared = text["num_hidden_layers"], text["num_kv_shared_layers"]
    swa = [kind == "sliding_attention" for kind in text["layer_types"]]
    width = text["intermediate_size"]
    wide = 2 * width if text["use_double_wide_mlp"] else width
    full, local = text["global_head_dim"], text["head_dim"]
    g = "gemma4."
    return [
        ("general.architecture", "str", "gemma4"),
        ("general.name", "str", "Tiny"),
        ("general.file_type", "u32", 32),
        (g + "block_count", "u32", n_layer),
        (g + "context_length", "u32", text["max_position_embeddings"]),
        (g + "embedding_length", "u32", text["hidden_size"]),
        (g + "feed_forward_length", "[i32]", [width] * (n_layer - shared) + [wide] * shared),
        (g + "attention.head_count", "u32", text["num_attention_heads"]),
        (g + "attention.head_count_kv", "u32", text["num_key_value_heads"]),
        (g + "rope.freq_base", "f32", 1e6),
        (g + "rope.freq_base_swa", "f32", 1e4),
        (g + "attention.layer_norm_rms_epsilon", "f32", 1e-6),
        (g + "attention.key_length", "u32", full),
        (g + "attention.value_length", "u32", full),
        (g + "final_logit_softcapping", "f32", 30.0),
        (g + "attention.sliding_window", "u32", text["sliding_window"]),
        (g + "attention.shared_kv_layers", "u32", shared),
        (g + "embedding_length_per_layer_input", "u32", text["hidden_size_per_layer_input"]),
        (g + "attention.sliding_window_pattern", "[bool]", swa),
        (g + "attention.key_length_swa", "u32", local),
        (g + "attention.value_length_swa", "u32", local),
        (g + "rope.dimension_count", "u32", full),
        (g + "rope.dimension_count_swa", "u32", local),
        ("general.quantization_version", "u32", 2),
    ]


def _tokenizer_keys() -> list[Key]:
    tokenizer = json.loads((TINY / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.__getitem__)
    control = {t["content"] for t in tokenizer["added_tokens"]}
    types = [
        4 if t in VISIBLE else 3 if t in control else 6 if t.startswith("<0x") else 1
        for t in tokens
    ]
    merges = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
    t = "tokenizer.ggml."
    return [
        (t + "model", "str", "gemma4"),
        (t + "tokens", "[str]", tokens),
        (t + "scores", "[f32]", [-1000.0] * len(tokens)),
        (t + "token_type", "[i32]", types),
        (t + "merges", "[str]", merges),
        (t + "bos_token_id", "u32", 2),
        (t + "eos_token_id", "u32", 1),
        (t + "unknown_token_id", "u32", 3),
        (t + "padding_token_id", "u32", 0),
        (t + "mask_token_id", "u32", 4),
        ("tokenizer.chat_template", "str", (TINY / "chat_template.jinja").read_text()),
        (t + "add_space_prefix", "bool", False),
        (t + "add_bos_token", "bool", True),
    ]


def _tensors(text: dict[str, Any]) -> list[Tensor]:
    raw = (TINY / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", raw)
    index = json.loads(raw[8 : 8 + length])
    n_pairs = text["global_head_dim"] // 2
    tensors: list[Tensor] = [("rope_freqs.weight", F32, [n_pairs], rope_table(n_pairs))]
    for name, entry in index.items():
        if name == "__metadata__":
            continue
        short = name.removeprefix("model.language_model.")
        if short.startswith("layers."):
            _, number, rest = short.split(".", 2)
            target = f"blk.{number}.{LAYER_NAMES[rest]}"
        else:
            target = MODEL_NAMES[short]
        start, end = entry["data_offsets"]
        data = raw[8 + length + start : 8 + length + end]
        shape = entry["shape"][::-1]
        if len(shape) == 1:
            data = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).astype("<u4").tobytes()
            tensors.append((target, F32, shape, data))
        else:
            tensors.append((target, BF16, shape, data))
    return tensors
