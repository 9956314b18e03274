"""Images and audio for tests, written with the standard library alone."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def picture(width: int, height: int) -> NDArray[np.uint8]:
    """Return height x width x 3 bytes of smooth color."""
    y, x = np.mgrid[0:height, 0:width]
    red = 127 + 120 * np.sin(x / 23) * np.cos(y / 31)
    green = 255 * x / width
    blue = 127 + 120 * np.cos((x + y) / 17)
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return the picture as a PNG file."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return _png_file(width, height, 2, zlib.compress(rows))


def _png_file(width: int, height: int, color: int, packed: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b"")):
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        file += struct.pack(">I", len(data)) + kind + data + checksum
    return file


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


def png_lie(
    width: int, height: int, *, color: int = 2, rows: bytes = b"\0", times: int = 1
) -> bytes:
    """Return a PNG that claims any size, and holds `rows` so many times."""
    pack = zlib.compressobj(9)
    head = pack.compress(b"\0") + pack.flush(zlib.Z_FULL_FLUSH)
    packed = head + (pack.compress(rows) + pack.flush(zlib.Z_FULL_FLUSH)) * times + pack.flush()
    return _png_file(width, height, color, packed)


def gif(width: int, height: int) -> bytes:
    """Return a black GIF: each pixel is a code of its own, and the table never becomes full."""
    bits = ""
    for pixel in range(width * height):
        if pixel % 100 == 0:
            bits = f"{0x80:08b}" + bits  # clear
        bits = f"{0:08b}" + bits
    bits = f"{0x81:08b}" + bits  # end
    codes = int(bits, 2).to_bytes(len(bits) // 8, "little")
    blocks = b"".join(
        bytes([len(codes[i : i + 255])]) + codes[i : i + 255] for i in range(0, len(codes), 255)
    )
    return gif_lie(width, height, width, height)[:-3] + b"\x07" + blocks + b"\0;"


def gif_lie(width: int, height: int, frame_width: int, frame_height: int) -> bytes:
    """Return the shortest GIF: screen, table of two colors, extension, one empty picture."""
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0x80, 0, 0)
        + bytes(6)
        + b"\x21\xf9\x04\0\0\0\0\0"
        + b"\x2c"
        + struct.pack("<HHHHB", 0, 0, frame_width, frame_height, 0)
        + b"\x02\0;"
    )


def jpeg(width: int, height: int, *, frame: int = 0xC0, scans: int = 1) -> bytes:
    """Return a gray JPEG of one color."""
    n_blocks = ((width + 7) // 8) * ((height + 7) // 8)
    scan = _jpeg_scan(bytes((2 * n_blocks + 7) // 8))  # two codes of one bit for each block
    return _jpeg_head(width, height, frame) + scan * scans + b"\xff\xd9"


def jpeg_of_blocks(is_light: NDArray[np.bool_]) -> bytes:
    """Return a JPEG of squares of 8 x 8 pixels: light gray (192) or gray (128)."""
    n_rows, n_columns = is_light.shape
    steps = np.diff(is_light.ravel().astype(int), prepend=0)
    # 32 or -32 as a number of six bits is 64 levels of gray, with the quantization table's 16.
    codes = {0: "0", 1: "10" + "100000", -1: "10" + "011111"}
    bits = "".join(codes[step] + "0" for step in steps.tolist())
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return _jpeg_head(8 * n_columns, 8 * n_rows) + _jpeg_scan(coded) + b"\xff\xd9"


def _jpeg_head(width: int, height: int, frame: int = 0xC0) -> bytes:
    """Return all up to the scan. Codes: 0 is "difference 0", 10 one of six bits; 0 ends a block."""
    return (
        b"\xff\xd8"
        + _jpeg_segment(0xFE, b"\xff\xc0 in a comment")
        + _jpeg_segment(0xDB, b"\0" + bytes([16] * 64))
        + _jpeg_segment(frame, struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\0")
        + _jpeg_segment(0xC4, b"\0" + bytes([1, 1]) + bytes(14) + b"\0\x06")
        + _jpeg_segment(0xC4, b"\x10" + bytes([1]) + bytes(15) + b"\0")
    )


def _jpeg_scan(coded: bytes) -> bytes:
    return _jpeg_segment(0xDA, b"\x01\x01\0\0\x3f\0") + coded


def _jpeg_segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def add_orientation(image: bytes, orientation: int, *, order: str = ">", kind: int = 3) -> bytes:
    """Return a JPEG with Exif data of one entry, the orientation, in a byte order of struct."""
    magic = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    entry = struct.pack(order + "HHIHH", 0x0112, kind, 1, orientation, 0)
    exif = magic + struct.pack(order + "H", 1) + entry + bytes(4)
    return image[:2] + _jpeg_segment(0xE1, b"Exif\0\0" + exif) + image[2:]


def flac(n_frames: int, *, rate: int = 16000, claims: int | None = None) -> bytes:
    """Return a silent FLAC of `n_frames` frames of 4096 samples, which claims `claims` samples."""

    def crc(data: bytes, width: int, polynomial: int) -> int:
        value = 0
        for byte in data:
            value ^= byte << (width - 8)
            for _ in range(8):
                value = (value << 1) ^ (polynomial if value >> (width - 1) else 0)
                value &= (1 << width) - 1
        return value

    frames = b""
    for number in range(n_frames):
        coded = bytes([number] if number < 128 else [0xC0 | number >> 6, 0x80 | number & 63])
        head = b"\xff\xf8\xc5\x08" + coded
        body = head + bytes([crc(head, 8, 0x07)]) + b"\0\0\0"  # one constant subframe of value 0
        frames += body + struct.pack(">H", crc(body, 16, 0x8005))
    samples = n_frames * 4096 if claims is None else claims
    packed = rate << 44 | 0 << 41 | 15 << 36 | samples
    info = struct.pack(">HH3s3sQ16s", 4096, 4096, bytes(3), bytes(3), packed, bytes(16))
    return b"fLaC" + struct.pack(">I", 0x80 << 24 | 34) + info + frames


def mp3(n_frames: int, *, xing: int | None = None) -> bytes:
    """Return silence as an MP3 of 44.1 kHz and 128 kbit/s.

    With `xing` it begins with a Xing tag that claims so many frames.
    """
    header = b"\xff\xfb\x90\xc0"
    first = b""
    if xing is not None:  # behind 17 bytes of side information
        first = header + bytes(17) + b"Xing" + struct.pack(">II", 1, xing)
        first += bytes(417 - len(first))
    return first + (header + bytes(413)) * n_frames


ID3 = b"ID3\4\0\0\0\0\0\0"  # a tag without content
# Files of each format that g4 reads, of 50 x 34 pixels or about a second.
IMAGES = {
    "png": png(picture(50, 34)),
    "bmp": bmp(picture(50, 34)),
    "gif": gif(50, 34),
    "jpg": jpeg(50, 34),
}
SOUNDS = {
    "wav": wav(sound(12000)),
    "wav of 8 kHz": wav(sound(6000), 8000),
    "flac": flac(3),
    "flac behind a tag": b"ID3\4\0\0\0\0\0\x05.....ID3\4\0\0\0\0\0\1." + flac(3),
    "mp3": mp3(40),
    "mp3 with a tag": mp3(40, xing=40),
    "mp3 behind rubbish": ID3 + bytes(500) + mp3(40),
}
