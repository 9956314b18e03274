"""Compute the memory of the encoder of images and audio (mmproj): weights, compute buffers.

The compute buffers are compared with those that mtmd plans for all five models, equal to the 0.01
MiB that llama.cpp logs: tests/golden/memory_encoders.json. A GPU aligns to 128 bytes, which makes
them no larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal

from g4cli.core.errors import BadGGUF
from g4cli.core.file_kind import MMPROJ, PROJECTORS
from g4cli.core.gguf_header import Header
from g4cli.core.shape import Keys
from g4cli.estimate.encoders import Encoder, audio_graph, vision_graph
from g4cli.estimate.graph import Graph, graph_bytes

DEFAULT_IMAGE_TOKENS: Final = 1120
"""The default image token budget, and the largest: set_limit_image_tokens for Gemma 4, clip.cpp,
llama.cpp@0c1e57098."""

# 30 s of audio. mtmd splits longer audio into such parts for the conformer (mtmd-audio.cpp,
# llama.cpp@0c1e57098), but not for 12B, which needs 15 MB for each 30 s.
_MEL_FRAMES: Final = 3000
_RAW_FRAMES: Final = 750
_RAW_SAMPLES: Final = 640  # 40 ms at 16 kHz
# More than any encoder has, choices: they bound the work that a file can cause.
_MAX_LAYERS: Final = 512
_MAX_NUMBER: Final = 1 << 20


# Names in an mmproj: the projection to the language model, and the first convolution.
_TENSORS: Final = MappingProxyType({
    "vision": ("mm.input_projection.weight", "v.patch_embd.weight"),
    "audio": ("mm.a.input_projection.weight", "a.conv1d.0.weight"),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Media:
    """Bytes of an encoder.

    `weights` are those of all tensors. `image` and `audio` are the compute buffers for one image
    and for 30 s of audio, 0 if the encoder takes none; both stay allocated after their first use.
    `work` is what an image needs on the host: its pixels in F32 and the work buffer of the CPU
    kernels.
    """

    weights: int
    image: int
    audio: int
    work: int = 0


def media_bytes(header: Header, image_tokens: int = DEFAULT_IMAGE_TOKENS) -> Media:
    """Return the memory of an encoder, with a compute buffer for images of `image_tokens`.

    Raises BadGGUF if the file is not an encoder of Gemma 4.
    """
    if header.architecture != MMPROJ:
        raise BadGGUF(
            header.path,
            f"architecture {header.architecture!r} is not an image or audio encoder",
            field="general.architecture",
            hint="pass the mmproj file",
        )
    weights = sum(t.nbytes for t in header.tensors.values())
    image = audio = work = 0
    if header.get("clip.has_vision_encoder", bool, False):
        encoder = _read_encoder(header, "vision")
        n_patches = image_tokens * (encoder.merge**2 if encoder.n_layer else 1)
        image = _compute_bytes(vision_graph, encoder, n_patches)
        work = _work_bytes(encoder, n_patches)
    if header.get("clip.has_audio_encoder", bool, False):
        encoder = _read_encoder(header, "audio")
        n_frames = _MEL_FRAMES if encoder.n_layer else _RAW_FRAMES
        audio = _compute_bytes(audio_graph, encoder, n_frames)
    return Media(weights, image, audio, work)


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """How an encoder divides an image into positions, each of which becomes one token.

    `position_pixels` is the side of a position, `most_positions` the largest number along one side.
    """

    position_pixels: int
    most_positions: int

    def count_positions(self, width: int, height: int, least: int, most: int) -> tuple[int, int]:
        """Return the positions along width and height of an image of `width` x `height` pixels.

        mtmd scales the image so that its number of positions is between `least` and `most`, but an
        image that is narrower than a position then can have more. mtmd computes with 32 bits: a few
        sizes at a limit get one row more or less there.

        Source: calc_size_preserved_ratio, tools/mtmd/mtmd-image.cpp, llama.cpp@0c1e57098.
        """
        across, down = width / self.position_pixels, height / self.position_pixels
        columns, rows = max(1, math.floor(across + 0.5)), max(1, math.floor(down + 0.5))
        if columns * rows > most:
            scale = math.sqrt(most / (across * down))
            return max(1, math.floor(across * scale)), max(1, math.floor(down * scale))
        if columns * rows < least:
            scale = math.sqrt(least / (across * down))
            return math.ceil(across * scale), math.ceil(down * scale)
        return columns, rows


def read_image_grid(header: Header) -> ImageGrid | None:
    """Return the grid of an encoder's images, or None if it takes none. Raises BadGGUF.

    ggml aborts the process if an image has more positions along a side than the table of position
    embeddings has rows, so callers compare first.
    """
    if not header.get("clip.has_vision_encoder", bool, False):
        return None
    encoder = _read_encoder(header, "vision")
    table = header.tensors.get("v.position_embd.weight")
    if table is None or len(table.shape) < 2:
        raise BadGGUF(
            header.path, "the position embeddings are missing", field="v.position_embd.weight"
        )
    # With layers, `merge` patches along each side are pooled to one position.
    merge = encoder.merge if encoder.n_layer else 1
    return ImageGrid(encoder.patch * encoder.merge, table.shape[1] // merge)


def _work_bytes(encoder: Encoder, n_patches: int) -> int:
    """Return the bytes of an image's pixels in F32, and of its widest activations in BF16.

    The kernels of a CPU convert them to the type of the weights (vec_dot_type, ggml-cpu.c).
    """
    side = encoder.patch if encoder.n_layer else encoder.patch * encoder.merge
    return n_patches * (4 * 3 * side**2 + 2 * max(encoder.n_ff, encoder.hidden))


@lru_cache(maxsize=32)
def _compute_bytes(make_graph: Callable[[Encoder, int], Graph], encoder: Encoder, size: int) -> int:
    return graph_bytes(make_graph(encoder, size))


def _read_encoder(header: Header, modality: Literal["vision", "audio"]) -> Encoder:
    """Return the encoder that `header` declares for `modality`. Raises BadGGUF."""
    projection, first_convolution = _TENSORS[modality]
    keys = Keys(header, MMPROJ, "an image or audio encoder")

    def read_number(
        key: str, default: int | None = None, least: int = 0, most: int = _MAX_NUMBER
    ) -> int:
        return keys.read_number(f"{modality}.{key}", (least, most), default=default)

    kind = header.get("clip.projector_type", str, "") or header.get(
        f"clip.{modality}.projector_type", str, ""
    )
    if kind not in PROJECTORS[modality]:
        raise BadGGUF(
            header.path,
            f"projector {kind!r} is not that of a {modality} encoder of Gemma 4",
            hint="known: " + " ".join(PROJECTORS[modality]),
        )
    out = header.tensors.get(projection)
    if out is None or len(out.shape) < 2:
        raise BadGGUF(
            header.path, "the projection to the language model is missing", field=projection
        )
    n_layer = read_number("block_count", 0, most=_MAX_LAYERS)
    first = header.tensors.get(first_convolution)
    return Encoder(
        n_layer=n_layer,
        hidden=read_number("embedding_length", least=1),
        n_ff=read_number("feed_forward_length", 0),
        n_head=read_number("attention.head_count", 0, least=1 if n_layer else 0),
        n_out=out.shape[1],
        patch=read_number("patch_size", 16, least=1),
        merge=read_number("projector.scale_factor", 3, least=1),
        is_wide=first is not None and first.type.name == "BF16",
        standardize="v.std_bias" in header.tensors,
        n_mel=read_number("num_mel_bins", 128, least=1) if n_layer else _RAW_SAMPLES,
        n_encoded=out.shape[0],
    )
