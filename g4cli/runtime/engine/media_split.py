"""Split an image or a sound into the pieces that mtmd encodes and evaluates one by one.

The file is decoded, turned upright and scaled, and the positions of each piece are counted;
nothing is encoded yet.
"""

from __future__ import annotations

import ctypes
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from g4cli.core.errors import BadMedia
from g4cli.core.image_header import ImageHeader
from g4cli.core.media_file import FORMATS, read_media
from g4cli.estimate.media import ImageGrid
from g4cli.prompt.messages import Media
from g4cli.runtime.engine.options import IMAGE_TOKENS
from g4cli.runtime.llama.library import LOG, engine_failure

# MTMD_INPUT_CHUNK_TYPE_TEXT and _IMAGE, tools/mtmd/mtmd.h
TEXT_CHUNK: Final = 0
"""The type of a chunk of tokens around an image or sound."""
_IMAGE_CHUNK: Final = 1


# A position of an image is a square of 48 x 48 pixels (three patches of 16), a position of a sound
# is four frames of 128 bands: float32 each.
_CHUNK_BYTES: Final = {"image": 3 * 48 * 48 * 4, "audio": 4 * 128 * 4}


@dataclass(eq=False, slots=True)
class Run:
    """A piece of an image or sound.

    In a prompt, its positions are negative numbers in the place of token ids: `first`, `first` - 1
    and so on, `n_tokens` of them, which no other run has (see media.py). `index` is its place among
    the chunks of its file. `embeddings` are the encoder's result, None before; `error` is why there
    is none.
    """

    first: int
    n_tokens: int
    medium: Medium
    index: int
    embeddings: Any = None
    error: Exception | None = None

    def digest(self, encoder: tuple[object, ...]) -> bytes:
        """Return 16 bytes, the same for the same piece of the same content and `encoder` alone."""
        parts = (self.medium.digest, self.index, self.n_tokens, *encoder)
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()


@dataclass(eq=False, slots=True)
class Medium:
    """The file of a Media, split. `key`: see `make_file_key`. `digest`: of its bytes.

    `tokens` is what stands in a prompt for it: control tokens and the numbers of its `runs`, of
    which a sound of more than 30 s has several. `chunks`: mtmd's pieces of it, None once dropped.
    """

    media: Media
    path: Path
    key: tuple[str, int, int]
    digest: bytes = b""
    tokens: tuple[int, ...] = ()
    runs: list[Run] = field(default_factory=list)
    chunks: Any = None

    @property
    def kept_bytes(self) -> int:
        """Return what its chunks and embeddings take; of chunks estimated."""
        chunk_bytes = _CHUNK_BYTES[self.media.kind] if self.chunks else 0
        return sum(
            chunk_bytes * run.n_tokens
            + (ctypes.sizeof(run.embeddings) if run.embeddings is not None else 0)
            for run in self.runs
        )

    def drop_results(self, library: Any) -> None:
        """Free its chunks, by the functions of mtmd in `library`, and its embeddings."""
        for run in self.runs:
            run.embeddings = None
        if self.chunks is not None:
            library.mtmd_input_chunks_free(self.chunks)
            self.chunks = None


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may take: `most_positions` in a prompt, and the encoder's `grid`.

    The grid is None for an encoder without vision.
    """

    most_positions: int
    grid: ImageGrid | None


def make_file_key(path: Path) -> tuple[str, int, int]:
    """Return path, size and modification time (ns) of a file: with others it is another one."""
    stat = path.stat()
    return str(path.resolve()), stat.st_size, stat.st_mtime_ns


def split_file(
    library: Any, handle: Any, path: Path, kind: str, limits: ImageLimits
) -> tuple[Any, bytes]:
    """Return mtmd's chunks of the file and a digest of its bytes; the caller frees the chunks.

    `library` are the functions of mtmd, `handle` the loaded encoder, `kind` is "image" or "audio".
    Raises FileMissing, and BadMedia for a file that is damaged, too large or too narrow.
    """
    data, header = read_media(path, kind, inflate=True)
    orientation = header.orientation if isinstance(header, ImageHeader) else 1
    LOG.clear()
    start = ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
    bitmap = library.mtmd_helper_bitmap_init_from_buf(handle, start, len(data), False)
    if not bitmap:
        raise BadMedia(
            f"{path} cannot be read: it is damaged", hint=f"{kind} formats: {FORMATS[kind]}"
        )
    chunks = library.mtmd_input_chunks_init()
    try:
        if orientation != 1:
            bitmap = _turn_bitmap(library, bitmap, orientation)
        part = library.mtmd_input_part(None, bitmap)
        parts = (ctypes.POINTER(library.mtmd_input_part) * 1)(ctypes.pointer(part))
        if library.mtmd_tokenize_from_parts(handle, chunks, parts, 1, False):
            raise BadMedia(engine_failure(f"{path} cannot be prepared").message)
        _check_positions(library, bitmap, chunks, path, limits)
    except BaseException:
        library.mtmd_input_chunks_free(chunks)
        raise
    finally:
        library.mtmd_bitmap_free(bitmap)
    # Embeddings that older versions saved for the same bytes are those of the picture as stored.
    salt = bytes([orientation - 1])
    return chunks, hashlib.blake2b(data, digest_size=16, salt=salt).digest()


def turn_pixels(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return a picture, shaped (rows, columns, colors), as it is seen upright.

    `orientation` is the value of Exif's tag, 1 to 8 (Exif 2.32, 4.6.4 "Orientation": which sides of
    the picture the first row and the first column are).
    """
    if orientation >= 5:  # the first row is a side
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):  # the first row is at the bottom, or the first column is
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):  # the first column is at the right, or the first row is
        pixels = pixels[:, ::-1]
    return pixels


def _turn_bitmap(library: Any, bitmap: Any, orientation: int) -> Any:
    """Return the bitmap turned upright, and free the given one."""
    columns, rows = library.mtmd_bitmap_get_nx(bitmap), library.mtmd_bitmap_get_ny(bitmap)
    pixels = np.ctypeslib.as_array(library.mtmd_bitmap_get_data(bitmap), (rows, columns, 3))
    turned = np.ascontiguousarray(turn_pixels(pixels, orientation))
    start = turned.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
    upright = library.mtmd_bitmap_init(turned.shape[1], turned.shape[0], start)  # copies the pixels
    library.mtmd_bitmap_free(bitmap)
    return upright


def _check_positions(
    library: Any, bitmap: Any, chunks: Any, path: Path, limits: ImageLimits
) -> None:
    """Raise BadMedia for an image that takes more positions than the batch or the encoder has.

    An image that is much longer than wide is scaled to a single row, of any length.
    """
    images = [
        library.mtmd_input_chunk_get_n_tokens(chunk)
        for index in range(library.mtmd_input_chunks_size(chunks))
        for chunk in [library.mtmd_input_chunks_get(chunks, index)]
        if library.mtmd_input_chunk_get_type(chunk) == _IMAGE_CHUNK
    ]
    for n_tokens in images:
        width, height = library.mtmd_bitmap_get_nx(bitmap), library.mtmd_bitmap_get_ny(bitmap)
        side, most = n_tokens, n_tokens
        if limits.grid is not None:
            most = limits.grid.most_positions
            least = least_positions(limits.most_positions)
            columns, rows = limits.grid.count_positions(width, height, least, limits.most_positions)
            # If llama.cpp counts differently: the side of a single row.
            side = max(columns, rows) if columns * rows == n_tokens else n_tokens
        if n_tokens > limits.most_positions or side > most:
            raise BadMedia(
                f"{path} is too narrow for this encoder: {width} x {height} pixels "
                f"take {n_tokens:,} positions, {side:,} on a side "
                f"(at most {limits.most_positions:,}, and {most:,} on a side)",
                hint="crop it into pieces that are less narrow",
            )


def least_positions(most: int) -> int:
    """Return the positions to which small images are enlarged: half of `most` at most.

    Rounding up to whole squares can double them.
    """
    return min(most // 2, IMAGE_TOKENS[0])
