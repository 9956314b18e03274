"""Pictures and sounds for tests, written with the standard library alone."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """Return height x width x 3 bytes of smooth colour."""
    y, x = np.mgrid[0:height, 0:width]
    red = 127 + 120 * np.sin(x / 23) * np.cos(y / 31)
    green = 255 * x / width
    blue = 127 + 120 * np.cos((x + y) / 17)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return the picture as a PNG file."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def bmp(pixels: NDArray[np.uint8]) -> bytes:
    """Return the picture as a 24-bit BMP file."""
    height, width, _ = pixels.shape
    pad = bytes(-width * 3 % 4)
    rows = b"".join(row[:, ::-1].tobytes() + pad for row in pixels[::-1])
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, len(rows), 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + info + rows


def sound(n_samples: int) -> NDArray[np.float32]:
    """Return a sweep at 16 kHz, in [-1, 1], on the grid of 16-bit samples."""
    t = np.arange(n_samples) / 16000
    sweep = 0.4 * np.sin(2 * np.pi * (200 + 900 * t) * t) + 0.1 * np.sin(2 * np.pi * 3000 * t)
    return (np.round(sweep * 32767) / 32768).astype(np.float32)


def wav(samples: NDArray[np.float32], rate: int = 16000) -> bytes:
    """Return the sound as a 16-bit mono WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32768).astype("<i2").tobytes())
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    """Write `data` and return the path."""
    path.write_bytes(data)
    return path
