"""Sizes and lengths from headers: as llama.cpp's decoders see them, refused before they decode."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g4cli.core.errors import BadMedia, FileMissing
from g4cli.core.image_header import (
    MAX_DECODE_BYTES,
    ImageHeader,
    check_png_rows,
    read_image_header,
)
from g4cli.core.media_file import media_kind_of, read_media
from g4cli.core.sound_header import SoundHeader, read_sound_header
from tests.support.builders.media_files import (
    ID3,
    IMAGES,
    SOUNDS,
    add_orientation,
    bmp,
    flac,
    gif_lie,
    jpeg,
    mp3,
    picture,
    png,
    png_lie,
    sound,
    wav,
    write,
)


def read_header(data: bytes) -> ImageHeader | SoundHeader:
    return read_image_header(data) if media_kind_of(data) == "image" else read_sound_header(data)


SIDES_OF_8 = struct.pack(">HH", 8, 8)
RATE_1_HZ = wav(sound(16000), rate=1)
LIES = {
    "a BMP of 54 bytes": (bmp(picture(1, 1))[:18] + struct.pack("<ii", 26000, 26000)
                          + bmp(picture(1, 1))[26:54], "too large"),
    "a BMP that ends early": (bmp(picture(100, 100))[:-400], "ends before its last row"),
    "a BMP of -2^31 rows": (bmp(picture(1, 1))[:22] + struct.pack("<i", -(2**31))
                            + bmp(picture(1, 1))[26:], "too large"),
    "a GIF of some 40 bytes": (gif_lie(26000, 26000, 1, 1), "too large"),
    "a GIF with a false picture": (gif_lie(6000, 6000, 6000, 6000), "cannot hold"),
    "a GIF that decodes to gigabytes": (gif_lie(16000, 16000, 1, 1), "decoding 16000 x 16000"),
    "a PNG of 18000 x 18000": (png_lie(18000, 18000), "too large"),
    "a PNG of 2^31 - 1": (png_lie(2**31 - 1, 1), "too large"),
    "a PNG with few rows": (png_lie(4000, 4000), "cannot hold"),
    "a PNG with too many rows": (png_lie(8, 8, rows=bytes(1 << 20), times=900), "more pixels than"),
    "a PNG without an end": (png(picture(48, 48))[:-12], "ends"),
    "a PNG with nothing in it": (png_lie(0, 5), "damaged"),
    "a JPEG of 65535 x 65535": (jpeg(8, 8).replace(SIDES_OF_8, b"\xff" * 4), "too large"),
    "a JPEG with false sides": (
        jpeg(8, 8).replace(SIDES_OF_8, struct.pack(">HH", 4000, 4000)), "cannot hold"),
    "a lossless JPEG": (jpeg(8, 8, frame=0xC3), "lossless"),
    "a JPEG of 1000 scans": (jpeg(8, 8, frame=0xC2, scans=1000), "scans"),
    "a JPEG without a size": (b"\xff\xd8\xff\xe0\0\4ab\xff\xda", "damaged"),
    "a FLAC of 172 bytes": (flac(1, claims=2**36 - 1).ljust(172, b"\0"), "too long"),
    "a FLAC that claims an hour": (flac(1, claims=16000 * 3600), "cannot hold"),
    "a FLAC of unknown length": (flac(3, claims=0), "does not declare its length"),
    "a FLAC behind a tag": (ID3 + flac(1, claims=2**36 - 1), "too long"),
    "a FLAC of 0 Hz": (flac(1, rate=0), "0 samples per second"),
    "a WAV of 1 Hz": (RATE_1_HZ, "has 1 samples per second"),
    "a WAV of 2^32 - 1 Hz": (RATE_1_HZ[:24] + b"\xff" * 4 + RATE_1_HZ[28:], "samples per second"),
    "a WAV of 1000 channels": (RATE_1_HZ[:22] + struct.pack("<HIIH", 1000, 16000, 1, 2000)
                               + RATE_1_HZ[34:], "1000 channels"),
    "a WAV that ends early": (wav(sound(1600))[:-100], "ends before its last sample"),
    "a WAV without samples": (wav(sound(0)), "no samples"),
    "a WAV with two formats": (wav(sound(16))[:36] * 2, "damaged"),
    "an ADPCM WAV": (RATE_1_HZ[:20] + b"\2" + RATE_1_HZ[21:], "compression"),
    "an MP3 of 2^31 frames": (mp3(40, xing=2**31), "declares more than"),
    "an MP3 of headers": (
        ID3 + (b"\xff\xf5\x88\xc0" + bytes(572)) * 12 + b"\xff\xf5\x88" * 70_000,
        "too long",
    ),
    "an MP3 without frames": (ID3 + bytes(5000), "no MP3 frame"),
    "an MP3 in pieces": (b"\xff\xfb\x90\xc0" * 20_000, "no MP3 frame"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LIES)
def test_false_headers_are_refused_before_anything_is_decoded(name: str, tmp_path: Path) -> None:
    data, said = LIES[name]
    path = write(tmp_path / "file", data)
    tracemalloc.start()
    try:
        with pytest.raises(BadMedia, match=said) as caught:
            read_media(path, media_kind_of(data) or "none", inflate=True)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(data) + (2 << 20)
    finally:
        tracemalloc.stop()
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message


def test_flac_of_223_kb_that_holds_gigabytes() -> None:
    """Its frames are real, 10 bytes for 65,535 samples each, but claim half an hour."""
    n_frames = 22_300
    body = bytes(10 * n_frames)
    head = bytearray(flac(0, claims=65535 * n_frames))
    head[8:12] = struct.pack(">HH", 65535, 65535)
    with pytest.raises(BadMedia, match="too long"):
        read_sound_header(bytes(head) + body)


def test_formats_that_stb_image_would_read_are_refused(tmp_path: Path) -> None:
    for data in (
        b"P6 60000 60000 255\n",
        b"8BPS\0\1",
        b"#?RADIANCE\n",
        b"\x53\x80\xf6\x34",
        bytes(2) + b"\2",
    ):
        with pytest.raises(BadMedia, match="is not an image that g4 reads"):
            read_media(write(tmp_path / "file", data), "image")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image"),
        (b"GIF89a", "image"),
        (b"fLaC", "audio"),
        (b"RIFF\0\0\0\0WAVE", "audio"),
        (b"RIFF\0\0\0\0WEBP", None),
        (b"\xff\xfeU\0T\0F\0", None),
        (b"", None),
        (b"%PDF", None),
    ],
)
def test_kinds(data: bytes, kind: str | None) -> None:
    assert media_kind_of(data) == kind


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        read_media(tmp_path / "nowhere.png", "image")


def test_a_streamed_wav_has_what_the_file_has() -> None:
    data = wav(sound(1600))
    streamed = data[:40] + b"\xff" * 4 + data[44:]
    assert read_sound_header(streamed).seconds == pytest.approx(0.1)


def test_large_pictures_of_cameras_are_allowed() -> None:
    """64 million pixels as a progressive JPEG, 50 million as a PNG with transparency."""
    found = read_image_header(jpeg(9248, 6936, frame=0xC2))
    assert (found.width, found.height) == (9248, 6936)
    rows = bytes((1 + 8160 * 4) * 60)
    image = png_lie(8160, 6120, color=6, rows=rows, times=102)
    assert read_image_header(image).decode_bytes < MAX_DECODE_BYTES


VALID = [*IMAGES.values(), *SOUNDS.values()]


@st.composite
def draw_mutation(draw: st.DrawFn) -> bytes:
    """Return a valid file with some bytes changed, and perhaps its start or end cut or repeated."""
    data = bytearray(draw(st.sampled_from(VALID)))
    for at, value in draw(
        st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6)
    ):
        data[at % len(data)] = value
    end = draw(st.integers(0, len(data)))
    return bytes(data[:end] if draw(st.booleans()) else data) * draw(st.sampled_from((1, 1, 1, 2)))


@pytest.mark.slow
@given(st.one_of(draw_mutation(), st.binary(max_size=200)))
def test_any_bytes_give_a_bounded_header_or_bad_media(data: bytes) -> None:
    for read in (read_image_header, read_sound_header):
        try:
            found = read(data)
        except BadMedia:
            continue
        if isinstance(found, ImageHeader):
            assert found.decode_bytes <= MAX_DECODE_BYTES
        else:
            assert 0 < found.seconds <= 3600 * 1.25


def test_a_picture_that_could_hold_gigabytes_is_inflated() -> None:
    image = png_lie(1000, 700, rows=random.Random(1).randbytes(700 * 3001 - 1))
    check_png_rows(image)
    with pytest.raises(BadMedia, match="more pixels"):
        check_png_rows(image.replace(struct.pack(">II", 1000, 700), struct.pack(">II", 10, 700)))
    at = image.index(b"IDAT") + 1000
    with pytest.raises(BadMedia, match="not valid"):
        check_png_rows(image[:at] + bytes(1000) + image[at + 1000 :])


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + png_lie(8, 8)[8:33] + b"\0\0\0\0abcd\0\0\0\0" * 200_000,
        b"\xff\xd8\xff" + b"\xff\0" * 1_000_000,
        gif_lie(8, 8, 8, 8)[:19] + b"\x21\xfe" + b"\1a" * 1_000_000,
        gif_lie(8, 8, 8, 8)[:19] + b"\x21\xfe\0" * 1_000_000,
        RATE_1_HZ[:12] + b"junk\0\0\0\0" * 200_000,
        flac(0, claims=1)[:4] + b"\0\0\0\x22" + flac(0, claims=1)[8:42] + bytes(2_000_000),
        ID3 * 200_000,
        mp3(12) + (b"\xff\xfb\x90" + bytes(10) + b"Xing\0\0\0\1\0\0\0\1") * 50_000,
    ],
    ids=["png", "jpeg", "gif", "gif extensions", "wav", "flac", "tags", "mp3 tags"],
)
def test_many_empty_parts_are_not_walked_to_the_end(data: bytes) -> None:
    with pytest.raises(BadMedia, match=r"parts|ends"):
        read_header(data)


def test_what_is_decoded_is_what_was_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", png(picture(8, 8)))
    data, _ = read_media(path, "image")
    os.truncate(path, 0)
    assert data == png(picture(8, 8))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_photo_is_that_of_the_upright_picture(orientation: int, order: str) -> None:
    header = read_image_header(add_orientation(jpeg(40, 24), orientation, order=order))
    assert header.orientation == orientation
    assert (header.width, header.height) == ((24, 40) if orientation >= 5 else (40, 24))


def test_exif_data_that_cannot_be_read_turn_nothing() -> None:
    turned = add_orientation(jpeg(40, 24), 6)
    start = turned.index(b"MM")
    for damaged in (
        add_orientation(jpeg(40, 24), 0),
        add_orientation(jpeg(40, 24), 9),
        add_orientation(jpeg(40, 24), 6, kind=4),
        turned.replace(b"MM\0*", b"MMMM"),
        turned[: start + 4] + b"\xff\xff\xff\xff" + turned[start + 8 :],  # the directory's offset
        turned[: start + 8] + b"\xff\xff\0\0" + turned[start + 12 :],  # 65,535 entries, no tag
    ):
        header = read_image_header(damaged)
        assert (header.width, header.height, header.orientation) == (40, 24, 1)


def test_the_first_exif_data_of_a_photo_count() -> None:
    """A file of 256 MiB could hold thousands, each with thousands of entries to look at."""
    assert read_image_header(add_orientation(add_orientation(jpeg(8, 8), 3), 6)).orientation == 6
