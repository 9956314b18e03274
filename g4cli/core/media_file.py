"""Recognize image and audio files, and check that they are safe to decode."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import Final

from g4cli.core.errors import BadMedia
from g4cli.core.files import open_file, require_file
from g4cli.core.image_header import PNG_SIGNATURE, ImageHeader, check_png_rows, read_image_header
from g4cli.core.paths import expand_home
from g4cli.core.sound_header import SoundHeader, read_sound_header
from g4cli.core.units import size_text

MAX_FILE_BYTES: Final = 256 << 20  # a choice: an hour of audio as WAV (16 bits, 16 kHz) is 110 MiB
FORMATS: Final = MappingProxyType({"image": "jpg, png, bmp, gif", "audio": "wav, mp3, flac"})
_WITH_ARTICLE: Final = MappingProxyType({"image": "an image", "audio": "a sound"})

# First bytes -> kind. The last six are the sync words of MP3 frames: MPEG 1, 2 and 2.5, with and
# without a checksum.
_MAGIC: Final = (
    (b"\xff\xd8\xff", "image"),
    (PNG_SIGNATURE, "image"),
    (b"BM", "image"),
    (b"GIF8", "image"),
    (b"fLaC", "audio"),
    (b"ID3", "audio"),
    (b"\xff\xfb", "audio"),
    (b"\xff\xfa", "audio"),
    (b"\xff\xf3", "audio"),
    (b"\xff\xf2", "audio"),
    (b"\xff\xe3", "audio"),
    (b"\xff\xe2", "audio"),
)


def media_kind_of(data: bytes) -> str | None:
    """Return 'image' or 'audio' by a file's first bytes, or None."""
    for magic, kind in _MAGIC:
        if data.startswith(magic):
            return kind
    return "audio" if data[:4] == b"RIFF" and data[8:12] == b"WAVE" else None


def read_media(
    path: Path, kind: str, *, inflate: bool = False
) -> tuple[bytes, ImageHeader | SoundHeader]:
    """Return the bytes of a file that is safe to decode, and its header.

    `kind` is 'image' or 'audio'. What is decoded must be these bytes, not the file, which may have
    changed. `inflate` also checks the compressed rows of a PNG, whose size the header does not
    tell: needed before decoding, but as slow as decoding. Raises FileMissing, or BadMedia: another
    kind, a format that g4 does not read, damaged, too large or too long.
    """
    path = require_file(expand_home(path))
    hint = f"{kind} formats: {FORMATS[kind]}"
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            most = size_text(MAX_FILE_BYTES)
            raise BadMedia(f"{path} is too large ({size_text(size)} of at most {most})", hint=hint)
        data = file.read(size)
    held = media_kind_of(data)
    if held != kind:
        wanted = _WITH_ARTICLE[kind]
        what = (
            f"not {wanted} that g4 reads"
            if held is None
            else f"{_WITH_ARTICLE[held]}, not {wanted}"
        )
        raise BadMedia(f"{path} is {what}", hint=hint)
    try:
        header = (read_image_header if kind == "image" else read_sound_header)(data)
        if inflate and header.format == "png":
            check_png_rows(data)
        return data, header
    except BadMedia as err:
        raise BadMedia(f"{path} {err.message}", hint=hint) from None
