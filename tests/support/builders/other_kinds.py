"""GGUF files that are sound and no Gemma 4 text model: other architectures and encoders."""

from __future__ import annotations

import numpy as np

from tests.support.builders.gguf import F32, Key, Tensor

VALUES = np.linspace(-1, 1, 32 * 32, dtype="<f4").tobytes()
MATRIX: Tensor = ("token_embd.weight", F32, [32, 32], VALUES)
PROJECTION: Tensor = ("mm.input_projection.weight", F32, [32, 32], VALUES)


def foreign_keys(architecture: str, *more: Key, file_type: int = 15) -> list[Key]:
    """Return the keys of another architecture, with its own tokenizer and template."""
    return [
        ("general.architecture", "str", architecture),
        ("general.file_type", "u32", file_type),
        (f"{architecture}.block_count", "u32", 26),
        ("tokenizer.ggml.model", "str", "llama"),
        ("tokenizer.ggml.tokens", "[str]", [f"<unused{i}>" for i in range(32)]),
        ("tokenizer.chat_template", "str", "<start_of_turn>user\n{{ messages[0].content }}"),
        *more,
    ]


def mmproj_keys(projector: str) -> list[Key]:
    return [
        ("general.architecture", "str", "clip"),
        ("clip.has_vision_encoder", "bool", True),
        ("clip.projector_type", "str", projector),
        ("clip.vision.projection_dim", "u32", 32),
    ]
