"""The tensors of a Gemma 4 text GGUF, computed from the network's shape.

The tables have one row per kind of tensor, in the alphabetical order of the Hugging Face names.
Layers follow in the alphabetical order of their numbers (0, 1, 10, 11, 2). That is the order of a
safetensors file, and so the order in which llama.cpp's converter writes them, after the one that it
computes itself (rope_freqs).

Sources: src/models/gemma4.cpp load_arch_tensors and conversion/gemma.py Gemma4Model,
llama.cpp@0c1e57098. The totals are compared with the published parameter counts in
tests/unit/core/test_inventory.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from g4cli.core.shape import Shape

TOKEN_EMBD: Final = "token_embd.weight"
PER_LAYER_TOKEN_EMBD: Final = "per_layer_token_embd.weight"
OUTPUT: Final = "output.weight"
ROPE_FREQS: Final = "rope_freqs.weight"

_Rule: TypeAlias = Callable[[Shape, int], "tuple[int, ...] | None"]
"""Returns the shape of a tensor of a layer, None if there is none; others ignore the layer."""


@dataclass(frozen=True, slots=True)
class TensorDims:
    """A tensor's name in GGUF and its shape; `shape[0]` is the row length (ggml's ne[0])."""

    name: str
    shape: tuple[int, ...]


def _hidden_size(shape: Shape, _layer: int) -> tuple[int, ...]:
    return (shape.n_embd,)


def _head_dims(shape: Shape, layer: int) -> tuple[int, ...]:
    return (shape.head_dim_of(layer),)


def _query_width(shape: Shape, layer: int) -> int:
    return shape.n_head[layer] * shape.head_dim_of(layer)


def _value_dims(shape: Shape, layer: int) -> tuple[int, ...] | None:
    # Where K = V (full-attention layers only) the value projection is that of the keys.
    if shape.k_eq_v and not shape.is_swa[layer]:
        return None
    return (shape.n_embd, shape.kv_width(layer))


def _only_moe(rule: _Rule) -> _Rule:
    return lambda shape, layer: rule(shape, layer) if shape.n_expert else None


def _only_ple(rule: _Rule) -> _Rule:
    return lambda shape, layer: rule(shape, layer) if shape.n_embd_per_layer else None


# One row per tensor: its name in GGUF, its shape, and as a comment its Hugging Face name.
# fmt: off
_BEFORE_LAYERS: Final[tuple[tuple[str, _Rule], ...]] = (
    (ROPE_FREQS, lambda s, _: (s.head_dim // 2,)),  # computed by the converter
    (TOKEN_EMBD, lambda s, _: (s.n_embd, s.n_vocab)),  # embed_tokens.weight
    (PER_LAYER_TOKEN_EMBD,  # embed_tokens_per_layer.weight
     _only_ple(lambda s, _: (s.n_embd_per_layer * s.n_layer, s.n_vocab))),
)

_LAYER: Final[tuple[tuple[str, _Rule], ...]] = (
    # The name without "blk.N.".
    ("ffn_down_exps.weight",  # experts.down_proj
     _only_moe(lambda s, _: (s.n_ff_expert, s.n_embd, s.n_expert))),
    ("ffn_gate_up_exps.weight",  # experts.gate_up_proj
     _only_moe(lambda s, _: (s.n_embd, 2 * s.n_ff_expert, s.n_expert))),
    ("attn_norm.weight", _hidden_size),  # input_layernorm
    ("layer_output_scale.weight", lambda *_: (1,)),  # layer_scalar
    ("ffn_down.weight", lambda s, i: (s.n_ff[i], s.n_embd)),  # mlp.down_proj
    ("ffn_gate.weight", lambda s, i: (s.n_embd, s.n_ff[i])),  # mlp.gate_proj
    ("ffn_up.weight", lambda s, i: (s.n_embd, s.n_ff[i])),  # mlp.up_proj
    ("inp_gate.weight",  # per_layer_input_gate
     _only_ple(lambda s, _: (s.n_embd, s.n_embd_per_layer))),
    ("proj.weight", _only_ple(lambda s, _: (s.n_embd_per_layer, s.n_embd))),  # per_layer_projection
    ("post_attention_norm.weight", _hidden_size),  # post_attention_layernorm
    ("post_ffw_norm.weight", _hidden_size),  # post_feedforward_layernorm
    ("post_ffw_norm_1.weight", _only_moe(_hidden_size)),  # post_feedforward_layernorm_1
    ("post_ffw_norm_2.weight", _only_moe(_hidden_size)),  # post_feedforward_layernorm_2
    ("post_norm.weight", _only_ple(_hidden_size)),  # post_per_layer_input_norm
    ("ffn_norm.weight", _hidden_size),  # pre_feedforward_layernorm
    ("pre_ffw_norm_2.weight", _only_moe(_hidden_size)),  # pre_feedforward_layernorm_2
    ("ffn_down_exps.scale", _only_moe(lambda s, _: (s.n_expert,))),  # router.per_expert_scale
    ("ffn_gate_inp.weight", _only_moe(lambda s, _: (s.n_embd, s.n_expert))),  # router.proj
    ("ffn_gate_inp.scale", _only_moe(_hidden_size)),  # router.scale
    ("attn_k_norm.weight", _head_dims),  # self_attn.k_norm
    ("attn_k.weight", lambda s, i: (s.n_embd, s.kv_width(i))),  # self_attn.k_proj
    ("attn_output.weight", lambda s, i: (_query_width(s, i), s.n_embd)),  # self_attn.o_proj
    ("attn_q_norm.weight", _head_dims),  # self_attn.q_norm
    ("attn_q.weight", lambda s, i: (s.n_embd, _query_width(s, i))),  # self_attn.q_proj
    ("attn_v.weight", _value_dims),  # self_attn.v_proj
)

_AFTER_LAYERS: Final[tuple[tuple[str, _Rule], ...]] = (
    ("output_norm.weight", _hidden_size),  # norm
    ("per_layer_model_proj.weight",  # per_layer_model_projection
     _only_ple(lambda s, _: (s.n_embd, s.n_embd_per_layer * s.n_layer))),
    ("per_layer_proj_norm.weight",  # per_layer_projection_norm
     _only_ple(lambda s, _: (s.n_embd_per_layer,))),
)
# fmt: on


def text_tensors(shape: Shape) -> tuple[TensorDims, ...]:
    """Return every tensor of a text GGUF of `shape` in the order of llama.cpp's converter.

    That is the order of a checkpoint in one safetensors file. The output matrix is tied to the
    embeddings, so there is no `output.weight`. Files contain K and V of layers that share another's
    cache too, although they are not used.
    """
    rows = [(name, rule(shape, 0)) for name, rule in _BEFORE_LAYERS]
    for layer in sorted(range(shape.n_layer), key=str):
        rows += [(f"blk.{layer}.{suffix}", rule(shape, layer)) for suffix, rule in _LAYER]
    rows += [(name, rule(shape, 0)) for name, rule in _AFTER_LAYERS]
    return tuple(TensorDims(name, dims) for name, dims in rows if dims is not None)


def unused_kv(shape: Shape) -> frozenset[str]:
    """Return the K and V tensors of layers with shared KV, which files may leave out."""
    return frozenset(
        f"blk.{layer}.{suffix}.weight"
        for layer in range(shape.n_layer_kv, shape.n_layer)
        for suffix in ("attn_k", "attn_v", "attn_k_norm")
    )
