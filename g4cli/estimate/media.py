"""What an encoder of images and sounds (an mmproj file) adds: its weights, and its scratch to the byte.

Proved by tests/golden/memory_encoders.json: what mtmd itself plans for all five models at four image sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from g4cli.core.errors import BadGGUF
from g4cli.core.gguf_header import Header
from g4cli.estimate.encoders import Tower, audio_graph, vision_graph
from g4cli.estimate.graph import CPU_ALIGNMENT, graph_bytes

ARCHITECTURE: Final = "clip"
IMAGE_TOKENS: Final = 1120
"""The most that an image takes by itself (image_max_tokens of llama.cpp for Gemma 4)."""

# 30 s of sound: mtmd cuts longer ones for the conformer (mtmd-audio.cpp, llama.cpp@0c1e57098), not for 12B.
_MEL_FRAMES: Final = 3000
_RAW_FRAMES: Final = 750
_RAW_SAMPLES: Final = 640  # 40 ms at 16 kHz
_LAYERS: Final = 512
_KNOWN: Final = ("gemma4v", "gemma4uv", "gemma4a", "gemma4ua")


@dataclass(frozen=True, slots=True)
class Media:
    """Bytes of an encoder's weights, and of its scratch for one image and for 30 s of sound (0: it has none).

    Both stay allocated after their first use. `work` is what an image takes on the host beside them: its
    pixels as numbers, and rows in the kernels' own type.
    """

    weights: int
    image: int
    sound: int
    work: int = 0


def media_bytes(header: Header, image_tokens: int = IMAGE_TOKENS) -> Media:
    """Return what the encoder takes, its scratch for images of `image_tokens`.

    Raises BadGGUF if the file is no encoder of Gemma 4.
    """
    if header.architecture != ARCHITECTURE:
        raise BadGGUF(
            header.path,
            f"architecture {header.architecture!r} is not an image or audio encoder",
            field="general.architecture",
            hint="pass the mmproj file",
        )
    weights = sum(t.nbytes for t in header.tensors.values())
    image = sound = work = 0
    if header.get("clip.has_vision_encoder", bool, False):
        tower = _read_tower(header, "vision", "mm.input_projection.weight")
        places = image_tokens * (tower.merge**2 if tower.n_layer else 1)
        image = _image_bytes(tower, places)
        work = _work_bytes(tower, places)
    if header.get("clip.has_audio_encoder", bool, False):
        tower = _read_tower(header, "audio", "mm.a.input_projection.weight")
        sound = _sound_bytes(tower, _MEL_FRAMES if tower.n_layer else _RAW_FRAMES)
    return Media(weights, image, sound, work)


@dataclass(frozen=True, slots=True)
class ImageGrid:
    """How an encoder lays an image out: the sides of one position in pixels, and the most on a side."""

    position_pixels: int
    most_positions: int

    def positions(self, width: int, height: int, least: int, most: int) -> tuple[int, int]:
        """Return the positions along width and height of a picture, to which `least` and `most` apply.

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


def image_grid(header: Header) -> ImageGrid | None:
    """Return the grid of an encoder's images, or None if it sees none. Raises BadGGUF.

    A patch further to the right or below than the table of positions goes ends the process in ggml.
    """
    if not header.get("clip.has_vision_encoder", bool, False):
        return None
    tower = _read_tower(header, "vision", "mm.input_projection.weight")
    table = header.tensors.get("v.position_embd.weight")
    if table is None or len(table.shape) < 2:
        raise BadGGUF(
            header.path, "the table of positions is missing", field="v.position_embd.weight"
        )
    # Without layers a patch is a position; else so many patches on each side are pooled to one.
    merge = tower.merge if tower.n_layer else 1
    return ImageGrid(tower.patch * tower.merge, table.shape[1] // merge)


def _work_bytes(tower: Tower, places: int) -> int:
    """Return the bytes of an image's pixels (F32), and of the widest product's rows in BF16."""
    side = tower.patch if tower.n_layer else tower.patch * tower.merge
    return places * (4 * 3 * side**2 + 2 * max(tower.inner, tower.width))


@lru_cache(maxsize=16)
def _image_bytes(tower: Tower, places: int) -> int:
    return graph_bytes(vision_graph(tower, places), CPU_ALIGNMENT)


@lru_cache(maxsize=16)
def _sound_bytes(tower: Tower, n_frames: int) -> int:
    return graph_bytes(audio_graph(tower, n_frames), CPU_ALIGNMENT)


def _read_tower(header: Header, sense: str, projection: str) -> Tower:
    """Return the tower that `header` declares for "vision" or "audio"."""

    def number(key: str, default: int | None = None, least: int = 0, most: int = 1 << 20) -> int:
        value = int(header.get(f"clip.{sense}.{key}", int, default))
        if not least <= value <= most:
            raise BadGGUF(header.path, f"{value} is out of range", field=f"clip.{sense}.{key}")
        return value

    kind = header.get("clip.projector_type", str, "") or header.get(
        f"clip.{sense}.projector_type", str, ""
    )
    if kind not in _KNOWN:
        raise BadGGUF(
            header.path, f"projector {kind!r} is not Gemma 4's", hint="known: " + " ".join(_KNOWN)
        )
    out = header.tensors.get(projection)
    if out is None or len(out.shape) < 2:
        raise BadGGUF(header.path, "the projection into the network is missing", field=projection)
    n_layer = number("block_count", 0, most=_LAYERS)
    first = header.tensors.get("v.patch_embd.weight" if sense == "vision" else "a.conv1d.0.weight")
    return Tower(
        n_layer=n_layer,
        width=number("embedding_length", least=1),
        inner=number("feed_forward_length", 0),
        n_head=number("attention.head_count", 0, least=1 if n_layer else 0),
        n_out=out.shape[1],
        patch=number("patch_size", 16, least=1),
        merge=number("projector.scale_factor", 3, least=1),
        is_wide=first is not None and first.type.name == "BF16",
        standardize="v.std_bias" in header.tensors,
        n_mel=number("num_mel_bins", 128, least=1) if n_layer else _RAW_SAMPLES,
        n_encoded=out.shape[0],
    )
