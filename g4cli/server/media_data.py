"""Images and sounds in requests: base64 and data URIs. Nothing else is opened."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

from g4cli.core.errors import BadField, BadMedia
from g4cli.operations.serving.media_files import MediaFiles
from g4cli.prompt.messages import Media
from g4cli.server.limits import MAX_MEDIA

SaveMedia: TypeAlias = Callable[[Literal["image", "audio"], str, str], Media]
"""(kind, base64, field of the request) -> a file with the data. Raises BadField."""

# RFC 2397; parameters such as ;charset=... may stand before ;base64.
_DATA_URI: Final = re.compile(
    r"data:(?:[\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*;base64,", re.A | re.I
)

_MAX_URI_HEAD: Final = 512  # a choice: characters before the data, a type and a few parameters
_PIECE: Final = 1 << 20  # characters; a multiple of four, which are three bytes


def store_data_uri(files: MediaFiles, uri: str, field: str) -> Media:
    """Return the image of a data URI as a file. Raises BadField, also for any other address."""
    match = _DATA_URI.match(uri[:_MAX_URI_HEAD])
    if match is None:
        what = "only data URIs are read (data:image/png;base64,...): no address is opened"
        raise BadField(field, what)
    return store_base64(files, "image", uri[match.end() :], field)


def store_base64(
    files: MediaFiles, kind: Literal["image", "audio"], text: str, field: str
) -> Media:
    """Return the data of `text` as a file. Raises BadField if it is not base64 of this kind."""
    try:
        data = _decode_base64(text)
    except ValueError:
        raise BadField(field, "not valid base64") from None
    try:
        return files.store(kind, data)
    except BadMedia as err:
        raise BadField(field, err.message) from None


def _decode_base64(text: str) -> bytes:
    """Return the bytes of the base64 `text`, read in pieces: other threads go on between two.

    Line breaks are left out, as Ollama does. Raises ValueError if it is not base64.
    """
    if "\n" in text:
        text = text.replace("\r", "").replace("\n", "")
    pieces = []
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        if "=" in piece and start + _PIECE < len(text):
            raise ValueError("padding before the end")
        pieces.append(base64.b64decode(piece, validate=True))
    return b"".join(pieces)


def limit_media(files: MediaFiles) -> SaveMedia:
    """Return `store_base64` for one request: it raises BadField too after MAX_MEDIA calls."""
    n_media = 0

    def save(kind: Literal["image", "audio"], text: str, field: str) -> Media:
        nonlocal n_media
        n_media += 1
        if n_media > MAX_MEDIA:
            raise BadField(field, f"a request has at most {MAX_MEDIA} images and sounds")
        return store_base64(files, kind, text, field)

    return save
