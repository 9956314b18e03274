"""A draft model (`gemma4-assistant`) for the bundled model, with random weights."""

from __future__ import annotations

import numpy as np

from tests.support.builders.gguf import BF16, F32, Key, Tensor, build_gguf, rope_table
from tests.support.builders.tiny_file import as_f32, tiny_parts
from tests.support.builders.weights import uniform_values

N_EMBD, N_FF, N_HEAD, N_VOCAB = 64, 128, 2, 768
BACKBONE = 256  # hidden size of the bundled model
IS_SWA = (True, True, True, False)
HEAD = {True: 64, False: 128}  # the bundled model's head sizes, by IS_SWA


def build_tiny_draft(*, f32: bool = False, **changed: int) -> bytes:
    """Return the file, its matrices as BF16 or F32.

    `changed` puts other numbers into keys of the network ("embedding_length_out").
    """
    prefix = "gemma4-assistant."
    numbers = {
        "block_count": 4,
        "context_length": 2048,
        "embedding_length": N_EMBD,
        "feed_forward_length": N_FF,
        "attention.head_count": N_HEAD,
        "attention.head_count_kv": 1,
        "attention.key_length": HEAD[False],
        "attention.value_length": HEAD[False],
        "attention.key_length_swa": HEAD[True],
        "attention.value_length_swa": HEAD[True],
        "attention.sliding_window": 128,
        "attention.shared_kv_layers": 4,
        "rope.dimension_count": HEAD[False],
        "rope.dimension_count_swa": HEAD[True],
        "embedding_length_per_layer_input": 0,
        "embedding_length_out": BACKBONE,
        "nextn_predict_layers": 4,
    } | changed
    keys: list[Key] = [
        ("general.architecture", "str", "gemma4-assistant"),
        *((prefix + name, "u32", value) for name, value in numbers.items()),
        (prefix + "rope.freq_base", "f32", 1e6),
        (prefix + "rope.freq_base_swa", "f32", 1e4),
        (prefix + "attention.layer_norm_rms_epsilon", "f32", 1e-6),
        (prefix + "final_logit_softcapping", "f32", 30.0),
        (prefix + "attention.sliding_window_pattern", "[bool]", list(IS_SWA)),
        *(key for key in tiny_parts()[0] if key[0].startswith("tokenizer.")),
    ]
    tensors = draft_tensors()
    return build_gguf(keys, [as_f32(tensor) for tensor in tensors] if f32 else tensors)


def draft_tensors() -> list[Tensor]:
    """Return its tensors: the same random weights each time."""
    generator = np.random.PCG64(1)

    def matrix(name: str, n_in: int, n_out: int) -> Tensor:
        # A standard deviation of 1/sqrt(n_in) keeps the size of what passes through the layers.
        values = (uniform_values(generator, n_in * n_out) * np.sqrt(3 / n_in)).astype("<f4")
        data = (values.view("<u4") >> 16).astype("<u2").tobytes()
        return f"{name}.weight", BF16, [n_in, n_out], data

    def vector(name: str, n: int) -> Tensor:
        return (f"{name}.weight", F32, [n], np.ones(n, "<f4").tobytes())

    n_pairs = HEAD[False] // 2
    tensors: list[Tensor] = [
        ("rope_freqs.weight", F32, [n_pairs], rope_table(n_pairs)),
        matrix("token_embd", N_EMBD, N_VOCAB),
        matrix("nextn.pre_projection", 2 * BACKBONE, N_EMBD),
        matrix("nextn.post_projection", N_EMBD, BACKBONE),
        vector("output_norm", N_EMBD),
    ]
    for layer, is_swa in enumerate(IS_SWA):
        blk, rows = f"blk.{layer}.", N_HEAD * HEAD[is_swa]
        tensors += [
            matrix(blk + "attn_q", N_EMBD, rows),
            matrix(blk + "attn_output", rows, N_EMBD),
            vector(blk + "attn_q_norm", HEAD[is_swa]),
            matrix(blk + "ffn_gate", N_EMBD, N_FF),
            matrix(blk + "ffn_up", N_EMBD, N_FF),
            matrix(blk + "ffn_down", N_FF, N_EMBD),
            *(vector(blk + name, N_EMBD) for name in ("attn_norm", "ffn_norm")),
            *(vector(blk + name, N_EMBD) for name in ("post_attention_norm", "post_ffw_norm")),
            vector(blk + "layer_output_scale", 1),
        ]
    return tensors
