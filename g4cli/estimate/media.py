"""What an encoder of images and sounds (an mmproj file) adds. Weights are exact, the scratch is approximate.

Sources: tools/mtmd/models/gemma4v.cpp, gemma4a.cpp and clip_graph::build_vit, llama.cpp@0c1e57098: the widest
moment of the vision tower is its feed-forward layer (gate, up, their product) beside the residual streams
and the pixels. llama.cpp plans 101.27 MiB for E2B's tower at 2304 patches and 150.63 for 31B's; this gives
108.0 and 150.6.
"""

from __future__ import annotations

from typing import Final

from g4cli.core.errors import BadGGUF
from g4cli.core.gguf import Header

ARCHITECTURE: Final = "clip"
IMAGE_TOKENS: Final = 1120
"""The most that an image takes by itself (image_max_tokens of llama.cpp for Gemma 4)."""

_PATCHES_PER_TOKEN: Final = 9
_PATCH_VALUES: Final = 3 * 16 * 16
_UNIFIED_PATCH_VALUES: Final = 3 * 48 * 48
# Two convolutions over 3000 frames of 128 mel bins, 128 and 32 channels, each halving both sides.
_AUDIO_BYTES: Final = 4 * 2 * 128 * 1500 * 64


def media_bytes(header: Header, image_tokens: int = IMAGE_TOKENS) -> tuple[int, int]:
    """Return the bytes of an encoder's weights and of its scratch for one image of `image_tokens`.

    Raises BadGGUF if the file is no encoder.
    """
    if header.architecture != ARCHITECTURE:
        raise BadGGUF(
            header.path,
            f"architecture {header.architecture!r} is no encoder of images and sounds",
            field="general.architecture",
            hint="give the file that is called mmproj",
        )
    weights = sum(t.nbytes for t in header.tensors.values())
    vision = audio = 0
    if header.get("clip.has_vision_encoder", bool, False):
        width = int(header.get("clip.vision.embedding_length", int))
        if int(header.get("clip.vision.block_count", int, 0)):
            inner = int(header.get("clip.vision.feed_forward_length", int))
            positions = image_tokens * _PATCHES_PER_TOKEN
            vision = 4 * positions * (3 * inner + 3 * width + _PATCH_VALUES)
        else:
            vision = 4 * image_tokens * (2 * _UNIFIED_PATCH_VALUES + 3 * width)
    if header.get("clip.has_audio_encoder", bool, False):
        audio = _AUDIO_BYTES
    return weights, max(vision, audio)
