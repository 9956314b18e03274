"""PNGs are decoded through every filter; a damaged one is an error."""

from __future__ import annotations

import random
import struct
import zlib

import pytest

from g4cli.core.errors import BadMedia
from g4cli.core.png import decode_png

WIDTH, HEIGHT = 7, 5


def make_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def encode_png(rows: list[bytes], filters: list[int], color: int = 6) -> bytes:
    """Return a PNG of `rows`, each with its own filter; written from the standard's formulas."""
    raw, above = b"", bytes(len(rows[0]))
    for row, kind in zip(rows, filters, strict=True):
        raw += bytes([kind])
        for i, value in enumerate(row):
            a = row[i - 4] if i >= 4 else 0
            b = above[i]
            c = above[i - 4] if i >= 4 else 0
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            raw += bytes([(value - [0, a, b, (a + b) // 2, nearest][kind]) % 256])
        above = row
    header = struct.pack(">IIBBBBB", len(rows[0]) // 4, len(rows), 8, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(make_chunk(kind, body) for kind, body in chunks)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_every_filter_is_undone(seed: int) -> None:
    rng = random.Random(seed)
    rows = [rng.randbytes(WIDTH * 4) for _ in range(HEIGHT)]
    pixels = decode_png(encode_png(rows, [0, 1, 2, 3, 4]))
    assert (pixels.width, pixels.height) == (WIDTH, HEIGHT)
    for y, row in enumerate(rows):
        for x in range(WIDTH):
            assert pixels.at(x, y) == tuple(row[x * 4 : (x + 1) * 4])


def test_a_png_without_pixels_is_an_error() -> None:
    with pytest.raises(BadMedia):
        decode_png(encode_png([b"", b""], [0, 0]))


def test_other_colors_than_rgba_are_an_error() -> None:
    with pytest.raises(BadMedia, match="color type 2"):
        decode_png(encode_png([bytes(12)], [0], color=2))


@pytest.mark.parametrize("cut", [0, 4, 20, 33, 44])
def test_a_damaged_png_is_an_error(cut: int) -> None:
    whole = encode_png([bytes(12)] * 3, [0, 0, 0])
    with pytest.raises(BadMedia):
        decode_png(whole[:cut])
