"""mmproj files with the exact shapes of Gemma 4's published encoders, without their weights.

    python -m tests.support.builders.real_mmproj e2b OUT.gguf

Names as llama.cpp's converter writes them (tests/golden/variants), extents from transformers'
configurations. mtmd refuses the file if one is wrong.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g4cli.core.ggml import ggml_type
from tests.support.builders import gguf as builders

Dims = tuple[int, ...]
PROJECTIONS = ("attn_q", "attn_k", "attn_v", "attn_out", "ffn_up", "ffn_gate", "ffn_down")


@dataclass(frozen=True)
class Vision:
    """A vision encoder, or with `n_layer` 0 the embedder of 12B."""

    n_layer: int
    width: int
    inner: int
    n_head: int
    standardize: bool = False


@dataclass(frozen=True)
class Audio:
    """An audio encoder, or with `n_layer` 0 the embedder of 12B."""

    n_layer: int = 12
    width: int = 1024
    n_head: int = 8
    n_encoded: int = 1536


SMALL, LARGE = Vision(16, 768, 3072, 12), Vision(27, 1152, 4304, 16, standardize=True)
# model: width of the text network, vision, audio
ENCODERS: dict[str, tuple[int, Vision, Audio | None]] = {
    "e2b": (1536, SMALL, Audio()),
    "e4b": (2560, SMALL, Audio()),
    "12b": (3840, Vision(0, 3840, 0, 0), Audio(0, 640)),
    "26b": (2816, LARGE, None),
    "31b": (5376, LARGE, None),
}


def vision_tensors(vision: Vision, n_out: int) -> list[tuple[str, str, Dims]]:
    """Return name, kind ("w": a matrix, "f": F32) and extents of every vision tensor.

    An encoder's patches have 16 x 16 pixels, those of the embedder 48 x 48. Their positions are
    looked up by column and by row.
    """
    width, inner = vision.width, vision.inner
    found: list[tuple[str, str, Dims]] = [("mm.input_projection.weight", "w", (width, n_out))]
    if not vision.n_layer:
        found += [
            ("v.patch_embd.weight", "f", (48 * 48 * 3, width)),
            ("v.patch_embd.bias", "f", (width,)),
        ]
        for i, n in ((1, 48 * 48 * 3), (2, width), (3, width)):
            found += [(f"v.patch_norm.{i}.{part}", "f", (n,)) for part in ("weight", "bias")]
        return [*found, ("v.position_embd.weight", "f", (width, 1120, 2))]
    found += [("v.patch_embd.weight", "f", (16, 16, 3, width))]
    found += [("v.position_embd.weight", "f", (width, 10240, 2))]
    if vision.standardize:
        found += [("v.std_bias", "f", (width,)), ("v.std_scale", "f", (width,))]
    for i in range(vision.n_layer):
        for name in ("ln1", "ln2", "attn_post_norm", "ffn_post_norm"):
            found.append((f"v.blk.{i}.{name}.weight", "f", (width,)))
        for name in ("attn_q_norm", "attn_k_norm"):
            found.append((f"v.blk.{i}.{name}.weight", "f", (width // vision.n_head,)))
        for name in PROJECTIONS:
            dims = {
                "ffn_up": (width, inner),
                "ffn_gate": (width, inner),
                "ffn_down": (inner, width),
            }
            found.append((f"v.blk.{i}.{name}.weight", "w", dims.get(name, (width, width))))
    return found


def audio_tensors(audio: Audio, n_out: int) -> list[tuple[str, str, Dims]]:
    """Return name, kind and extents of every audio tensor."""
    width, inner = audio.width, 4 * audio.width
    found: list[tuple[str, str, Dims]] = [
        ("mm.a.input_projection.weight", "w", (audio.n_encoded if audio.n_layer else width, n_out))
    ]
    if not audio.n_layer:
        return found
    found += [
        ("a.conv1d.0.weight", "f", (3, 3, 1, 128)),
        ("a.conv1d.1.weight", "f", (3, 3, 128, 32)),
        ("a.conv1d.0.norm.weight", "f", (128,)),
        ("a.conv1d.1.norm.weight", "f", (32,)),
        ("a.input_projection.weight", "f", (32 * 32, width)),
        ("a.pre_encode.out.weight", "w", (width, audio.n_encoded)),
        ("a.pre_encode.out.bias", "f", (audio.n_encoded,)),
    ]
    norms = (
        "ffn_norm",
        "ffn_post_norm",
        "ffn_norm_1",
        "ffn_post_norm_1",
        "norm_conv",
        "conv_norm",
        "ln2",
        "attn_post_norm",
        "attn_pre_norm",
    )
    matrices = {
        "ffn_up": (width, inner),
        "ffn_down": (inner, width),
        "ffn_up_1": (width, inner),
        "ffn_down_1": (inner, width),
        "conv_pw1": (width, 2 * width),
        "conv_pw2": (width, width),
        "attn_q": (width, width),
        "attn_k": (width, width),
        "attn_v": (width, width),
        "attn_out": (width, width),
        "attn_k_rel": (width, width),
    }
    for i in range(audio.n_layer):
        found += [(f"a.blk.{i}.{name}.weight", "f", (width,)) for name in norms]
        found += [(f"a.blk.{i}.{name}.weight", "w", dims) for name, dims in matrices.items()]
        found.append((f"a.blk.{i}.conv_dw.weight", "f", (5, width)))
        found.append((f"a.blk.{i}.per_dim_scale.weight", "f", (width // audio.n_head,)))
    return found


def keys_of(n_out: int, vision: Vision, audio: Audio | None, merge: int) -> list[builders.Key]:
    """Return the keys; `merge` 3 is Gemma 4's, others let mtmd plan larger or smaller images."""
    unified = not vision.n_layer
    keys: list[builders.Key] = [
        ("general.architecture", "str", "clip"),
        ("clip.has_vision_encoder", "bool", True),
        ("clip.vision.projection_dim", "u32", n_out),
        ("clip.vision.image_size", "u32", 224),
        ("clip.vision.patch_size", "u32", 16),
        ("clip.vision.embedding_length", "u32", vision.width),
        ("clip.vision.feed_forward_length", "u32", vision.inner),
        ("clip.vision.block_count", "u32", vision.n_layer),
        ("clip.vision.attention.head_count", "u32", vision.n_head),
        ("clip.vision.image_mean", "[f32]", [0.0] * 3),
        ("clip.vision.image_std", "[f32]", [1.0] * 3),
        ("clip.vision.projector_type", "str", "gemma4uv" if unified else "gemma4v"),
        ("clip.vision.attention.layer_norm_epsilon", "f32", 1e-6),
    ]
    if merge != 3:
        keys.append(("clip.vision.projector.scale_factor", "u32", merge))
    if audio:
        keys += [
            ("clip.has_audio_encoder", "bool", True),
            ("clip.audio.projection_dim", "u32", n_out),
            ("clip.audio.embedding_length", "u32", audio.width),
            ("clip.audio.feed_forward_length", "u32", 4 * audio.width * bool(audio.n_layer)),
            ("clip.audio.block_count", "u32", audio.n_layer),
            ("clip.audio.attention.head_count", "u32", audio.n_head * bool(audio.n_layer)),
            ("clip.audio.projector_type", "str", "gemma4a" if audio.n_layer else "gemma4ua"),
            ("clip.audio.num_mel_bins", "u32", 128),
            ("clip.audio.attention.layer_norm_epsilon", "f32", 1e-6),
        ]
    return keys


def build(path: Path, model: str, *, merge: int = 3, type_name: str = "bf16") -> Path:
    """Write the encoders of `model`, sparse, and return the path."""
    n_out, vision, audio = ENCODERS[model]
    tensors = vision_tensors(vision, n_out) + (audio_tensors(audio, n_out) if audio else [])
    infos, offset = [], 0
    for name, kind, dims in tensors:
        ggml = ggml_type(type_name if kind == "w" else "f32")
        infos.append(builders.tensor_info(name, ggml.id, dims, offset))
        offset += -(-ggml.tensor_bytes(dims) // 32) * 32
    keys: list[Any] = keys_of(n_out, vision, audio, merge)
    head = builders.build_gguf(keys, infos=infos)
    head += bytes(-len(head) % 32)
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + offset)
    return path


if __name__ == "__main__":
    print(build(Path(sys.argv[2]), sys.argv[1]))
