"""The numbers of a Gemma 4 network that memory and speed depend on, from a header or from the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from g4cli.core.errors import BadGGUF
from g4cli.core.gguf import Header
from g4cli.core.gguf_values import Array

ARCHITECTURES: Final = ("gemma4",)


@dataclass(frozen=True, slots=True)
class Shape:
    """One text network. Per-layer tuples have `n_layer` items; `is_swa[i]` is True for a sliding layer."""

    n_layer: int
    n_embd: int
    n_vocab: int
    n_ctx_train: int
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    n_ff: tuple[int, ...]
    is_swa: tuple[bool, ...]
    head_dim: int
    head_dim_swa: int
    n_swa: int
    n_shared_kv: int = 0
    n_embd_per_layer: int = 0
    n_expert: int = 0
    n_expert_used: int = 0
    n_ff_expert: int = 0
    k_eq_v: bool = False

    @property
    def n_layer_kv(self) -> int:
        """Return how many layers own a KV cache: the rest reads an earlier layer's."""
        return self.n_layer - self.n_shared_kv

    def head_dim_of(self, layer: int) -> int:
        """Return the head width of `layer`."""
        return self.head_dim_swa if self.is_swa[layer] else self.head_dim

    def kv_width(self, layer: int) -> int:
        """Return the elements of one K (or V) row of `layer`."""
        return self.n_head_kv[layer] * self.head_dim_of(layer)


def shape_of(header: Header) -> Shape:
    """Return the shape that `header` declares. Raises BadGGUF on another architecture or a missing key.

    Keys and their defaults: src/models/gemma4.cpp load_arch_hparams, llama.cpp@0c1e57098.
    """
    arch = header.architecture
    if arch not in ARCHITECTURES:
        raise BadGGUF(
            header.path,
            f"architecture {arch!r} is not a Gemma 4 text network",
            field="general.architecture",
            hint="known: " + " ".join(ARCHITECTURES),
        )

    def number(key: str, default: int | None = None) -> int:
        return int(header.get(f"{arch}.{key}", int, default))

    n_layer = number("block_count")
    if not 0 < n_layer <= 512:  # LLAMA_MAX_LAYERS
        raise BadGGUF(header.path, f"{n_layer} layers", field=f"{arch}.block_count")

    def per_layer(key: str) -> tuple[Any, ...]:
        value = header.get(f"{arch}.{key}", object)
        if not isinstance(value, Array):
            return (value,) * n_layer
        if len(value) < n_layer:
            raise BadGGUF(header.path, f"{len(value)} items for {n_layer} layers", field=f"{arch}.{key}")
        return tuple(value.tolist()[:n_layer])

    head_dim = number("attention.key_length")
    embedding = header.tensors.get("token_embd.weight")
    tokens = header.keys.get("tokenizer.ggml.tokens")
    n_vocab = (
        embedding.shape[1]
        if embedding
        else len(tokens.data)
        if tokens and isinstance(tokens.data, Array)
        else 0
    )
    return Shape(
        n_layer=n_layer,
        n_embd=number("embedding_length"),
        n_vocab=n_vocab,
        n_ctx_train=number("context_length"),
        n_head=per_layer("attention.head_count"),
        n_head_kv=per_layer("attention.head_count_kv"),
        n_ff=per_layer("feed_forward_length"),
        is_swa=per_layer("attention.sliding_window_pattern"),
        head_dim=head_dim,
        head_dim_swa=number("attention.key_length_swa", head_dim),
        n_swa=number("attention.sliding_window"),
        n_shared_kv=number("attention.shared_kv_layers", 0),
        n_embd_per_layer=number("embedding_length_per_layer_input", 0),
        n_expert=number("expert_count", 0),
        n_expert_used=number("expert_used_count", 0),
        n_ff_expert=number("expert_feed_forward_length", 0),
        k_eq_v="blk.0.attn_v.weight" in header.tensors
        and any(
            f"blk.{i}.attn_k.weight" in header.tensors and f"blk.{i}.attn_v.weight" not in header.tensors
            for i in range(n_layer)
        ),
    )
