"""A small Llama with random weights: a model of another architecture that llama.cpp runs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tests.support.builders.gguf import F32, Key, Tensor

N_LAYERS, WIDTH, N_HEADS, N_KV_HEADS, N_INNER = 4, 32, 4, 2, 64
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def _byte_letters() -> list[str]:
    """Return the letter that stands for each byte in a GPT-2 vocabulary.

    Printable characters of Latin-1 stand for themselves, others for U+0100 and what follows
    (bytes_to_unicode in OpenAI's gpt-2, src/encoder.py).
    """
    plain = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in plain else next(others)) for byte in range(256)]


TOKENS = [*_byte_letters(), "he", "th", *CONTROL]
END = TOKENS.index("<|im_end|>")


def llama_keys(**changes: object) -> list[Key]:
    """Return the keys of the model; `changes` replaces values by the last part of their name."""
    types = [3 if token in CONTROL else 1 for token in TOKENS]
    rows: list[Key] = [
        ("general.architecture", "str", "llama"),
        ("general.name", "str", "Small Instruct"),
        ("llama.block_count", "u32", N_LAYERS),
        ("llama.context_length", "u32", 512),
        ("llama.embedding_length", "u32", WIDTH),
        ("llama.feed_forward_length", "u32", N_INNER),
        ("llama.attention.head_count", "u32", N_HEADS),
        ("llama.attention.head_count_kv", "u32", N_KV_HEADS),
        ("llama.attention.layer_norm_rms_epsilon", "f32", 1e-5),
        ("llama.rope.dimension_count", "u32", WIDTH // N_HEADS),
        ("tokenizer.ggml.model", "str", "gpt2"),
        ("tokenizer.ggml.pre", "str", "gpt-2"),
        ("tokenizer.ggml.tokens", "[str]", TOKENS),
        ("tokenizer.ggml.token_type", "[i32]", types),
        ("tokenizer.ggml.merges", "[str]", ["h e", "t h"]),
        ("tokenizer.ggml.bos_token_id", "u32", TOKENS.index("<|endoftext|>")),
        ("tokenizer.ggml.eos_token_id", "u32", END),
        ("tokenizer.chat_template", "str", CHATML),
    ]
    changed = [
        (name, kind, changes.pop(name.rpartition(".")[2], value)) for name, kind, value in rows
    ]
    assert not changes, f"no such key: {changes}"
    return [row for row in changed if row[2] is not None]


def llama_tensors(seed: int = 1, *, without: Iterable[str] = ()) -> list[Tensor]:
    """Return the tensors of the model as F32 but those in `without`."""
    rng = np.random.default_rng(seed)

    def matrix(name: str, *ne: int) -> Tensor:
        return name, F32, ne, rng.normal(0, 0.3, int(np.prod(ne))).astype("<f4").tobytes()

    def norm(name: str) -> Tensor:
        return name, F32, [WIDTH], rng.normal(1, 0.05, WIDTH).astype("<f4").tobytes()

    kv_width = WIDTH // N_HEADS * N_KV_HEADS
    tensors = [matrix("token_embd.weight", WIDTH, len(TOKENS)), norm("output_norm.weight")]
    for n in range(N_LAYERS):
        block = f"blk.{n}"
        tensors += [
            norm(f"{block}.attn_norm.weight"), norm(f"{block}.ffn_norm.weight"),
            matrix(f"{block}.attn_q.weight", WIDTH, WIDTH),
            matrix(f"{block}.attn_k.weight", WIDTH, kv_width),
            matrix(f"{block}.attn_v.weight", WIDTH, kv_width),
            matrix(f"{block}.attn_output.weight", WIDTH, WIDTH),
            matrix(f"{block}.ffn_gate.weight", WIDTH, N_INNER),
            matrix(f"{block}.ffn_up.weight", WIDTH, N_INNER),
            matrix(f"{block}.ffn_down.weight", N_INNER, WIDTH),
        ]  # fmt: skip
    skipped = set(without)
    return [tensor for tensor in tensors if tensor[0] not in skipped]
