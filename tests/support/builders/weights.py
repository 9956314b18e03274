"""Random Gemma 4 files: E2B's architecture, experts, rows that do not divide into blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.support.builders.gguf import BF16, F32, Tensor, gemma4_keys, write_gguf

N_VOCAB = 32


def bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to bfloat16, half to even, the textbook way."""
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def uniform_values(generator: np.random.PCG64, n: int) -> NDArray[np.float64]:
    """Return `n` numbers from -1 to 1 of the generator's bits, the same with every numpy."""
    return (generator.random_raw(n) >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1


def names_and_shapes(
    n_layer: int, n_embd: int, n_ff: int, ple: int, n_expert: int
) -> list[tuple[str, tuple[int, ...]]]:
    """Return the tensors of a small network in the order of a converter: by layer, not sorted."""
    rows: list[tuple[str, tuple[int, ...]]] = [("token_embd.weight", (n_embd, N_VOCAB))]
    if ple:
        rows += [
            ("per_layer_token_embd.weight", (ple * n_layer, N_VOCAB)),
            ("per_layer_model_proj.weight", (n_embd, ple * n_layer)),
            ("per_layer_proj_norm.weight", (ple,)),
        ]
    for i in range(n_layer):
        layer: list[tuple[str, tuple[int, ...]]] = [
            ("attn_norm.weight", (n_embd,)),
            ("attn_q.weight", (n_embd, 256)),
            ("attn_k.weight", (n_embd, 64)),
            ("attn_output.weight", (256, n_embd)),
            ("ffn_gate.weight", (n_embd, n_ff)),
            ("ffn_up.weight", (n_embd, n_ff)),
            ("ffn_down.weight", (n_ff, n_embd)),
            ("layer_output_scale.weight", (1,)),
        ]
        if not (n_expert and i % 3 == 2):  # layers whose V is their K
            layer.append(("attn_v.weight", (n_embd, 64)))
        if ple:
            layer += [("inp_gate.weight", (n_embd, ple)), ("proj.weight", (ple, n_embd))]
        if n_expert:
            layer += [
                ("ffn_gate_inp.weight", (n_embd, n_expert)),
                ("ffn_gate_inp.scale", (n_embd,)),
                ("ffn_gate_up_exps.weight", (n_embd, 64, n_expert)),
                ("ffn_down_exps.weight", (32, n_embd, n_expert)),
                ("ffn_down_exps.scale", (n_expert,)),
            ]
        rows += [(f"blk.{i}.{name}", shape) for name, shape in layer]
    return [*rows, ("output_norm.weight", (n_embd,))]


def tensors(
    rows: list[tuple[str, tuple[int, ...]]], seed: int = 1, sigma: float = 0.02
) -> list[Tensor]:
    """Return random weights: norms and vectors F32, matrices BF16."""
    rng = np.random.default_rng(seed)
    made: list[Tensor] = []
    for name, shape in rows:
        values = rng.normal(0, sigma, int(np.prod(shape))).astype(np.float32)
        plain = len(shape) < 2 or "ffn_gate_inp" in name
        data = values.tobytes() if plain else bf16(values).tobytes()
        made.append((name, F32 if plain else BF16, shape, data))
    return made


def write_network(
    path: Path,
    *,
    n_layer: int = 4,
    n_embd: int = 256,
    n_ff: int = 256,
    ple: int = 64,
    n_expert: int = 0,
    seed: int = 1,
    sigma: float = 0.02,
) -> Path:
    """Write a network that llama.cpp's quantizer accepts, and return its path."""
    keys = gemma4_keys(
        n_layer,
        n_embd,
        N_VOCAB,
        replace={
            "gemma4.attention.head_count": ("u32", 4),
            "gemma4.attention.head_count_kv": ("u32", 1),
            "gemma4.embedding_length_per_layer_input": ("u32", ple),
            "gemma4.feed_forward_length": ("u32", n_ff),
            **({"gemma4.expert_count": ("u32", n_expert)} if n_expert else {}),
            "gemma4.expert_used_count": ("u32", min(2, n_expert)),
        },
    )
    return write_gguf(
        path, keys, tensors(names_and_shapes(n_layer, n_embd, n_ff, ple, n_expert), seed, sigma)
    )


# E2B's kind, experts, and rows that are no whole blocks: of 256 (n_embd), nor of 32 (n_ff: 72).
KINDS: dict[str, dict[str, int]] = {
    "e": {},
    "moe": {"ple": 0, "n_expert": 4, "n_layer": 3},
    "odd": {"n_embd": 160, "n_ff": 72, "ple": 32, "n_layer": 3},
}
