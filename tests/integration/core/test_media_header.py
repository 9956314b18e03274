"""Sizes and lengths from headers are those that llama.cpp's own decoders see."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import pytest

from g4cli.core.image_header import (
    read_image_header,
)
from g4cli.core.sound_header import read_sound_header
from g4cli.runtime.engine.llama_engine import open_engine
from g4cli.runtime.engine.options import ContextOptions, MediaOptions, ModelOptions
from g4cli.runtime.llama.library import load_mtmd
from tests.support.builders.media_files import (
    IMAGES,
    SOUNDS,
    write,
)
from tests.support.builders.tiny_file import build_tiny
from tests.support.paths import GOLDEN

MMPROJ = GOLDEN / "tiny_mmproj.gguf"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """llama.cpp's own decoders need an encoder for the rate of its samples."""
    tiny = write(tmp_path_factory.mktemp("header") / "tiny.gguf", build_tiny())
    with open_engine(
        tiny, model_options=ModelOptions(), context_options=ContextOptions(n_ctx=256)
    ) as engine:
        engine.attach_media(MediaOptions(MMPROJ))
        assert engine.prompts.media is not None
        yield engine.prompts.media._handle


def decode_size(encoder: Any, data: bytes) -> tuple[int, int]:
    """Return width and height of what llama.cpp decodes; for audio, the samples at 16 kHz and 1."""
    c = load_mtmd()
    start = ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8))
    bitmap = c.mtmd_helper_bitmap_init_from_buf(encoder, start, len(data), False)
    assert bitmap, "llama.cpp reads it"
    size = int(c.mtmd_bitmap_get_nx(bitmap)), int(c.mtmd_bitmap_get_ny(bitmap))
    c.mtmd_bitmap_free(bitmap)
    return size


@pytest.mark.parametrize("name", IMAGES)
def test_pictures_have_the_size_that_llama_cpp_decodes(encoder: Any, name: str) -> None:
    header = read_image_header(IMAGES[name])
    assert (header.format, header.width, header.height) == (name, 50, 34)
    assert decode_size(encoder, IMAGES[name]) == (50, 34)


@pytest.mark.parametrize("name", SOUNDS)
def test_sounds_are_at_least_as_long_as_llama_cpp_decodes(encoder: Any, name: str) -> None:
    header = read_sound_header(SOUNDS[name])
    found = decode_size(encoder, SOUNDS[name])[0]
    assert found <= header.seconds * 16000 + 1
    # Exact for WAV and FLAC; an MP3's frames are counted with the tag's, and with what looks like
    # one.
    assert found > header.seconds * 16000 * (0.9 if header.format == "mp3" else 0.999)


# A header that begins in the last byte of the frame before; frames of a free format come first.
HIDDEN_FRAMES = {
    "overlapping headers": (b"\xff\xe3\x18\xc0" + bytes(67) + b"\xff") * 1000,
    "a free format": (b"\xff\xe3\x08\xc0" + bytes(96)) * 12
    + (b"\xff\xfb\x14\xc0" + bytes(92)) * 1000,
}


@pytest.mark.parametrize("data", HIDDEN_FRAMES.values(), ids=HIDDEN_FRAMES)
def test_an_mp3_is_not_shorter_than_its_hidden_frames(encoder: Any, data: bytes) -> None:
    assert decode_size(encoder, data)[0] <= read_sound_header(data).seconds * 16000 + 1
