"""What all published Gemma 4 files have in common: key values, vocabulary, control tokens.

Sources: config.json and tokenizer files of google/gemma-4-*; models/ggml-vocab-gemma-4.gguf and
src/models/gemma4.cpp of ggml-org/llama.cpp@0c1e57098.
"""

from __future__ import annotations

from typing import Final

from g4cli.core.registry import MODELS
from g4cli.core.shape import Shape

TOKENIZER: Final = "tokenizer.ggml."
"""The prefix of the keys of a tokenizer."""

# Key; its value in every published file; what another value does. llama.cpp takes any value without
# a warning.
CONSTANT_KEYS: Final = (
    ("gemma4.attention.layer_norm_rms_epsilon", 1e-6, "every norm is off"),
    ("gemma4.rope.freq_base", 1e6, "positions in full-attention layers are wrong"),
    ("gemma4.rope.freq_base_swa", 1e4, "positions in sliding-window layers are wrong"),
    ("gemma4.final_logit_softcapping", 30.0, "the logits have another range"),
)

N_TOKENS: Final = 262_144
N_MERGES: Final = 514_906
VOCABULARY_SHA256: Final = {
    "tokens": "a5a6b2886a2d1ccb33ba3c5ba62b32066be33c29c1d67fea478891721883e808",
    "merges": "1fc76734735fa624f5091b768899592b570356e2737a717d4ca32aeda12f8ace",
}
"""The sha256 of two arrays of ggml-vocab-gemma-4.gguf: of their items as encoded in the file, each
string after its length (u64)."""
TINY_VOCABULARY_SHA256: Final = {
    "tokens": "285a839d4b5b4dda914956a9f2601283456f244ed9809470eeede02d7fc9e950",
    "merges": "cc1df0ac94d3b475028a859bb075e860c2a1d8932ad716feed2fe837b1fa30d5",
}
"""The same of the bundled model `tiny`."""
# Id, text, type (llama_token_type in llama.h): 3 is a control token, which llama.cpp does not
# print, 4 a user-defined one, which it prints. Both kinds are control tokens in g4's documentation.
CONTROL_TOKENS: Final = (
    (0, "<pad>", 3), (1, "<eos>", 3), (2, "<bos>", 3), (3, "<unk>", 3), (4, "<mask>", 3),
    (46, "<|tool>", 3), (47, "<tool|>", 3), (48, "<|tool_call>", 4), (49, "<tool_call|>", 4),
    (50, "<|tool_response>", 4), (51, "<tool_response|>", 4), (52, '<|"|>', 4),
    (98, "<|think|>", 3), (100, "<|channel>", 4), (101, "<channel|>", 4), (105, "<|turn>", 3),
    (106, "<turn|>", 3),
)  # fmt: skip
BYTE_TYPE: Final = 6
"""The token type of the 256 tokens `<0x00>` to `<0xFF>`."""
# The part of a key after `tokenizer.ggml.`, and its value in every published file.
SPECIAL_IDS: Final = (
    ("bos_token_id", 2), ("eos_token_id", 1), ("unknown_token_id", 3), ("padding_token_id", 0),
    ("mask_token_id", 4),
)  # fmt: skip
# Under tokenizer.ggml.suppress_tokens, in the 12B alone: <audio|> (258,883) and <image|> (258,882),
# which it must never generate.
SUPPRESSED_TOKENS: Final = (258_883, 258_882)
# Without thinking, the prompts for these end with an empty thought, after which the answer begins.
EMPTY_THOUGHT_MODELS: Final = ("12b", "26b", "31b")


def make_rope_table(n_pairs: int) -> list[float]:
    """Return the numbers of rope_freqs.weight: one for each pair of a full-attention head.

    RoPE divides the angle of a pair by its number. Only the first quarter of the pairs is rotated
    (partial_rotary_factor 0.25 in config.json); 1e30 makes the angles of the others zero.
    """
    n_rotated = n_pairs // 4
    return [1.0] * n_rotated + [1e30] * (n_pairs - n_rotated)


def find_model_name(shape: Shape | None) -> str:
    """Return g4's name of the model with the layers and the hidden size of `shape`, or ''.

    None stands for a header that declares no valid shape.
    """
    size = (shape.n_layer, shape.n_embd) if shape is not None else None
    return next((m.name for m in MODELS if (m.shape.n_layer, m.shape.n_embd) == size), "")
