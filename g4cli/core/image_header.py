"""Read size and orientation of an image from its header: PNG, JPEG, BMP and GIF.

llama.cpp decodes images with stb_image, which allocates the size that a header declares before it
reads the rest. Here the header is read first, by the same rules as in stb_image
(vendor/stb/stb_image.h, version 2.30, in llama.cpp@0c1e57098), so that both see the same size.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Final

from g4cli.core.errors import BadMedia
from g4cli.core.header_bytes import unpack_at
from g4cli.core.units import size_text

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
MAX_SIDE: Final = 16384  # pixels, a choice: larger than any camera's picture
MAX_DECODE_BYTES: Final = 768 << 20
"""Memory limit for decoding, a choice that fits photographs of some 50 million pixels."""

# Most pixels that a byte of a compressed file can encode: a header that declares more is wrong.
_DEFLATE_RATIO: Final = 1032  # zlib's FAQ, "maximum compression factor": bytes, not pixels
_GIF_RATIO: Final = 2731  # 4096 pixels by one code of 12 bits, which are 1.5 bytes
_JPEG_RATIO: Final = 1024  # one bit for a block of 8 x 8 in the first scan, doubled for safety
# A progressive file may have any number of scans, each of which takes as long as a whole image.
# Programs write about ten: a choice far above.
_MAX_JPEG_SCANS: Final = 200
# Color type -> samples of a pixel, and -> bits that a sample may have.
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PNG_DEPTHS: Final = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
# The passes of an interlaced PNG: column and row of their first pixel, steps to the next.
_ADAM7: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
_INFLATE_PIECE_BYTES: Final = 1 << 18  # decompressed at once: a choice
_MAX_PARTS: Final = 50_000  # chunks, segments or blocks, a choice that bounds time
_TOO_MANY: Final = f"is damaged: it has more than {_MAX_PARTS:,} parts"
_APP1: Final = 0xE1  # the JPEG segment that holds the Exif data, which begin with:
_EXIF: Final = b"Exif\0\0"
_ORIENTATION_TAG: Final = 0x0112
_SHORT: Final = 3  # the type of 16-bit numbers in the Exif data
_SWAPPED: Final = (5, 6, 7, 8)  # orientations whose rows are stored as columns
# Start of frame: baseline, extended, progressive. stb_image supports no others.
_JPEG_FRAMES: Final = (0xC0, 0xC1, 0xC2)
_JPEG_OTHER_FRAMES: Final = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format and size in pixels of an image.

    `decode_bytes` is roughly the memory that stb_image needs. `orientation` is how the picture must
    be turned to be seen upright, from 1 (as it is stored) to 8: the values of Exif's tag. Width and
    height are those after turning.
    """

    format: str
    width: int
    height: int
    decode_bytes: int
    orientation: int = 1


def read_image_header(data: bytes) -> ImageHeader:
    """Return the header of an image that is safe to decode.

    Raises BadMedia if the file has another format, is damaged, declares more pixels than it can
    hold, or is too large to decode. The message continues a sentence that begins with the file's
    name.
    """
    for magic, read in (
        (PNG_SIGNATURE, _read_png),
        (b"\xff\xd8\xff", _read_jpeg),
        (b"BM", _read_bmp),
        (b"GIF87a", _read_gif),
        (b"GIF89a", _read_gif),
    ):
        if data.startswith(magic):
            return read(data)
    raise BadMedia("is not an image that g4 reads")


def _check_header(format_: str, width: int, height: int, bytes_per_pixel: float) -> ImageHeader:
    """Return the header of an image within the limits. Raises BadMedia for others."""
    if width < 1 or height < 1:
        raise BadMedia(f"is damaged: its size is {width} x {height} pixels")
    if max(width, height) > MAX_SIDE:
        raise BadMedia(f"is too large: {width} x {height} pixels, at most {MAX_SIDE} on a side")
    needed = int(width * height * bytes_per_pixel)
    if needed > MAX_DECODE_BYTES:
        raise BadMedia(
            f"is too large: decoding {width} x {height} pixels takes {size_text(needed)}, "
            f"at most {size_text(MAX_DECODE_BYTES)}"
        )
    return ImageHeader(format_, width, height, needed)


def _read_png(data: bytes) -> ImageHeader:
    # https://www.w3.org/TR/png-3/, 5.3 chunk layout, 11.2.1 IHDR
    length, kind, width, height, depth, color, compression, filter_, interlace = unpack_at(
        data, ">I4sIIBBBBB", 8
    )
    if length != 13 or kind != b"IHDR":
        raise BadMedia("is damaged: its PNG header is missing")
    if depth not in _PNG_DEPTHS.get(color, ()) or compression or filter_ or interlace > 1:
        raise BadMedia("is damaged: its PNG header is not valid")
    # stb_image decompresses all rows, copies them (twice if interlaced), then converts them to RGB.
    sample = 2 if depth == 16 else 1
    channels = 4 if color == 3 else _PNG_CHANNELS[color]
    header = _check_header("png", width, height, (2 + interlace) * channels * sample + 3)
    packed = sum(map(len, list_png_rows(data)))
    if packed * _DEFLATE_RATIO < _png_row_bytes(data):
        raise BadMedia("is damaged: it cannot hold as many pixels as its header declares")
    return header


def list_png_rows(data: bytes) -> list[memoryview]:
    """Return the compressed rows in pieces. Raises BadMedia if a chunk is truncated."""
    pieces, at, view = [], 8, memoryview(data)
    for _ in range(_MAX_PARTS):
        length, kind = unpack_at(data, ">I4s", at)
        if at + 12 + length > len(data):
            raise BadMedia("is damaged: it ends too early")
        if kind == b"IDAT":
            pieces.append(view[at + 8 : at + 8 + length])
        if kind == b"IEND":
            return pieces
        at += 12 + length
    raise BadMedia(_TOO_MANY)


def _png_row_bytes(data: bytes) -> int:
    """Return the bytes of all rows before compression, one filter byte before each."""
    full_width, full_height, depth, color, _, _, interlace = unpack_at(data, ">IIBBBBB", 16)
    bits, total = _PNG_CHANNELS[color] * depth, 0
    for x, y, step_x, step_y in _ADAM7 if interlace else ((0, 0, 1, 1),):
        width = (full_width - x + step_x - 1) // step_x
        height = (full_height - y + step_y - 1) // step_y
        if width > 0 and height > 0:
            total += height * (1 + (width * bits + 7) // 8)
    return total


def check_png_rows(data: bytes) -> None:
    """Decompress a PNG whose header was read, and discard the result.

    stb_image has no limit for the decompressed size. This takes as long as decoding. Raises
    BadMedia if the rows are longer than the header declares, or are damaged.
    """
    pieces, declared = list_png_rows(data), _png_row_bytes(data)
    if sum(map(len, pieces)) * _DEFLATE_RATIO <= MAX_DECODE_BYTES:
        return
    inflate, total = zlib.decompressobj(), 0
    try:
        for piece in pieces:
            for at in range(0, len(piece), _INFLATE_PIECE_BYTES):
                unread: bytes | memoryview = piece[at : at + _INFLATE_PIECE_BYTES]
                while unread and not inflate.eof:
                    total += len(inflate.decompress(unread, _INFLATE_PIECE_BYTES))
                    unread = inflate.unconsumed_tail
                    if total > declared + _INFLATE_PIECE_BYTES:
                        raise BadMedia("is damaged: it holds more pixels than its header declares")
    except zlib.error:
        raise BadMedia("is damaged: its compressed data are not valid") from None


def _read_jpeg(data: bytes) -> ImageHeader:
    # ITU-T T.81, B.2.2 frame header. As in stb_image, anything between segments is skipped.
    at, exif = 2, b""
    for _ in range(_MAX_PARTS):
        at = data.find(b"\xff", at)
        if at < 0 or at + 4 > len(data):
            raise BadMedia("is damaged: it ends before its size")
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_FRAMES:
            header = _jpeg_frame(data, at + 2, progressive=marker == 0xC2)
            orientation = _find_orientation(exif)  # of one segment: others would take time
            if orientation in _SWAPPED:
                header = replace(header, width=header.height, height=header.width)
            return replace(header, orientation=orientation)
        elif marker in _JPEG_OTHER_FRAMES:
            raise BadMedia("is a kind of JPEG that g4 does not read (lossless or arithmetic)")
        elif marker in (0xDA, 0xD9):  # start of a scan, end of the image
            raise BadMedia("is damaged: its pixels come before its size")
        elif marker in (0, 1) or 0xD0 <= marker <= 0xD8:  # markers without a length
            at += 2
        else:
            (length,) = unpack_at(data, ">H", at + 2)
            if length < 2:
                raise BadMedia("is damaged: a segment without a length")
            if marker == _APP1 and not exif and data.startswith(_EXIF, at + 4):
                exif = data[at + 4 + len(_EXIF) : at + 2 + length]
            at += 2 + length
    raise BadMedia(_TOO_MANY)


def _find_orientation(exif: bytes) -> int:
    """Return the orientation that Exif data hold; 1 if they hold none or are damaged.

    The data are a TIFF file: a byte order, the offset of the first directory, and there entries of
    12 bytes: tag, type, count, value (TIFF 6.0, section 2; Exif 2.32, 4.6.4, "Orientation").
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (directory,) = unpack_at(exif, order + "I", 4)
        (n_entries,) = unpack_at(exif, order + "H", directory)
        for index in range(n_entries):
            tag, kind, count, value = unpack_at(exif, order + "HHIH", directory + 2 + 12 * index)
            if tag == _ORIENTATION_TAG:
                return int(value) if (kind, count) == (_SHORT, 1) and 1 <= value <= 8 else 1
    except BadMedia:  # the directory is cut off; a picture that is not turned is still a picture
        pass
    return 1


def _jpeg_frame(data: bytes, at: int, *, progressive: bool) -> ImageHeader:
    length, depth, height, width, n_components = unpack_at(data, ">HBHHB", at)
    if depth != 8 or n_components not in (1, 3, 4) or length != 8 + 3 * n_components:
        raise BadMedia("is a kind of JPEG that g4 does not read")
    # Planes, 16-bit coefficients if progressive, the RGB result and mtmd's copy of it.
    per_pixel = n_components * (3 if progressive else 1) + 6
    header = _check_header("jpg", width, height, per_pixel)
    if width * height > _JPEG_RATIO * len(data):
        raise BadMedia("is damaged: it cannot hold as many pixels as its header declares")
    if progressive and data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise BadMedia(f"is a JPEG of more than {_MAX_JPEG_SCANS} scans")
    return header


def _read_bmp(data: bytes) -> ImageHeader:
    # BITMAPFILEHEADER and BITMAPCOREHEADER / BITMAPINFOHEADER / V4 / V5 of the Windows API
    offset, size = unpack_at(data, "<II", 10)
    compression = 0
    if size == 12:
        width, height, planes, bits = unpack_at(data, "<HHHH", 18)
    elif size in (40, 56, 108, 124):
        width, height, planes, bits, compression = unpack_at(data, "<iiHHI", 18)
        height = abs(height)
    else:
        raise BadMedia("is damaged: its BMP header is not valid")
    if compression not in (0, 3):  # BI_RGB, BI_BITFIELDS
        raise BadMedia("is a compressed BMP, which g4 does not read")
    if planes != 1 or bits not in (1, 4, 8, 16, 24, 32):
        raise BadMedia("is damaged: its BMP header is not valid")
    # RGBA while it is decoded, the RGB result and mtmd's copy of it.
    header = _check_header("bmp", width, height, 4 + 3 + 3)
    row = (width * bits + 31) // 32 * 4
    if offset + row * (height - 1) + (width * bits + 7) // 8 > len(data):
        raise BadMedia("is damaged: it ends before its last row")
    return header


def _read_gif(data: bytes) -> ImageHeader:
    # https://www.w3.org/Graphics/GIF/spec-gif89a.txt, 18 to 20 and 23
    width, height, flags = unpack_at(data, "<HHB", 6)
    # Four bytes a pixel for canvas and background, one for the history, then RGB twice.
    header = _check_header("gif", width, height, 4 + 4 + 1 + 6)
    # After the screen's descriptor and its color table, if it has one.
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    (kind,) = unpack_at(data, "B", at)
    for _ in range(_MAX_PARTS):
        if kind == 0x2C:  # a frame
            x, y, frame_width, frame_height = unpack_at(data, "<HHHH", at + 1)
            if x + frame_width > width or y + frame_height > height:
                raise BadMedia("is damaged: its first frame is larger than the image")
            if frame_width * frame_height > _GIF_RATIO * len(data):
                raise BadMedia("is damaged: it cannot hold as many pixels as its header declares")
            return header
        if kind != 0x21:  # an extension
            raise BadMedia("is damaged: it is a GIF without a frame")
        at = _after_gif_extension(data, at)
        (kind,) = unpack_at(data, "B", at)
    raise BadMedia(_TOO_MANY)


def _after_gif_extension(data: bytes, at: int) -> int:
    """Return the end of the extension at `at`: after its sub-blocks and the empty one."""
    at += 2
    for _ in range(_MAX_PARTS):
        (length,) = unpack_at(data, "B", at)
        at += 1 + length
        if not length:
            return at
    raise BadMedia(_TOO_MANY)
