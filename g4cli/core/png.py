"""Decode a PNG as resvg writes it: RGBA with eight bits a channel, not interlaced.

Sections named below are those of the specification (ISO/IEC 15948, https://www.w3.org/TR/png-3/).
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from g4cli.core.errors import BadMedia
from g4cli.core.image_header import PNG_SIGNATURE, list_png_rows

_RGBA: Final = 6  # the color type of pixels with red, green, blue and opacity
_PIXEL_BYTES: Final = 4
_MAX_PIXELS: Final = 1 << 26  # a choice: 256 MiB as RGBA


@dataclass(frozen=True, slots=True)
class Pixels:
    """A picture as rows of red, green, blue and opacity, one byte each, from the top left."""

    width: int
    height: int
    rgba: bytes

    def at(self, x: int, y: int) -> tuple[int, int, int, int]:
        """Return red, green, blue and opacity of the pixel at column `x` of row `y`."""
        start = 4 * (y * self.width + x)
        red, green, blue, alpha = self.rgba[start : start + 4]
        return red, green, blue, alpha


def decode_png(data: bytes) -> Pixels:
    """Return the pixels of a PNG. Raises BadMedia for another kind, or if it is damaged."""
    try:
        return _read_pixels(data)
    except BadMedia as err:
        raise BadMedia(f"the PNG {err.message}") from err
    except (struct.error, zlib.error, IndexError, ValueError) as err:
        raise BadMedia(f"the PNG cannot be decoded: {err}") from err


def _read_pixels(data: bytes) -> Pixels:
    if data[:8] != PNG_SIGNATURE:
        raise ValueError("no PNG")
    compressed = b"".join(list_png_rows(data))
    # The header is the first chunk (section 5.6).
    width, height, depth, color, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    if (depth, color, interlaced) != (8, _RGBA, 0) or not 0 < width * height <= _MAX_PIXELS:
        raise ValueError(f"{depth} bits, color type {color}, {width} x {height} pixels")
    stride = width * _PIXEL_BYTES
    raw = zlib.decompressobj().decompress(compressed, (stride + 1) * height)
    rows, above = bytearray(), bytearray(stride)
    for row in range(height):
        start = row * (stride + 1)
        line = bytearray(raw[start + 1 : start + 1 + stride])
        if len(line) != stride:
            raise ValueError("rows are missing")
        _undo_filter(raw[start], line, above)
        rows += line
        above = line
    return Pixels(width, height, bytes(rows))


def _undo_filter(kind: int, line: bytearray, above: bytearray) -> None:
    """Turn the differences of a row back into samples, in place (section 9.2).

    `kind` is the row's filter (0 for none), `above` the row before it.
    """
    step = _PIXEL_BYTES
    if kind == 1:  # "Sub"; then "Up", "Average", "Paeth"
        for i in range(step, len(line)):
            line[i] = line[i] + line[i - step] & 255
    elif kind == 2:
        for i, up in enumerate(above):
            line[i] = line[i] + up & 255
    elif kind == 3:
        for i, up in enumerate(above):
            left = line[i - step] if i >= step else 0
            line[i] = line[i] + (left + up >> 1) & 255
    elif kind == 4:
        for i, up in enumerate(above):
            left, corner = (line[i - step], above[i - step]) if i >= step else (0, 0)
            line[i] = line[i] + _predict_paeth(left, up, corner) & 255
    elif kind:
        raise ValueError(f"unknown filter {kind}")


def _predict_paeth(left: int, up: int, corner: int) -> int:
    """Return the neighbor nearest to left + up - corner (section 9.4)."""
    estimate = left + up - corner
    by_left, by_up, by_corner = abs(estimate - left), abs(estimate - up), abs(estimate - corner)
    if by_left <= by_up and by_left <= by_corner:
        return left
    return up if by_up <= by_corner else corner
