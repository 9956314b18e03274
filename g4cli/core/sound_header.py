"""Read the duration of audio from its headers: WAV, FLAC and MP3.

llama.cpp decodes audio with miniaudio, and allocates as many samples as a header declares. Here the
headers are read first, by the same rules as in miniaudio (vendor/miniaudio/miniaudio.h, version
0.11.25, in llama.cpp@0c1e57098), so that both see the same length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from typing import Final

from g4cli.core.errors import BadMedia
from g4cli.core.header_bytes import unpack_at

MAX_SECONDS: Final = 3600
"""An hour: 90,000 tokens of a prompt, and 220 MiB of samples at the encoder's 16 kHz."""
# Choices: from below a telephone's 8 kHz to the highest rate of miniaudio; up to 7.1 channels.
MIN_RATE: Final = 4000
MAX_RATE: Final = 384000
MAX_CHANNELS: Final = 8

# Format tags of a WAV file (mmreg.h: PCM, float, A-law, mu-law) -> bits of a sample.
_WAV_BITS: Final = {1: (8, 16, 24, 32), 3: (32, 64), 6: (8,), 7: (8,)}
_WAV_EXTENSIBLE: Final = 0xFFFE
_MAX_PARTS: Final = 10_000  # chunks, metadata blocks or tags, a choice that bounds time
_TOO_MANY: Final = f"is damaged: it has more than {_MAX_PARTS:,} parts"
_STREAMED: Final = 0x7FFFFF00  # programs that write to a pipe declare a length in this range
_FLAC_MIN_FRAME_BYTES: Final = 10  # header 6, subframe 2, CRC 2
# A header of an MPEG audio frame (ma_dr_mp3_hdr_valid): sync word, layer, neither bit rate 15 nor
# rate 3. As a lookahead it also finds the header that begins within another: ff ff e3.
_MP3_SYNC: Final = re.compile(
    rb"(?=\xff[\xe2\xe3\xf2-\xf7\xfa-\xff][%s])"
    % b"".join(rb"\x%x0-\x%xb" % (high, high) for high in range(15))
)
_MP3_RATES: Final = (44100, 48000, 32000)
# Samples of a frame by the second byte of its header.
_MP3_SAMPLES: Final = tuple(
    384 if second >> 1 & 3 == 3 else 576 if second & 0x0E == 2 else 1152 for second in range(256)
)
# ISO/IEC 11172-3, 2.4.2.3, and 13818-3 for the lower rates: kbit/s by (lower rates, layer).
_MP3_KBITS: Final = {
    (False, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (False, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (False, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (True, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (True, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (True, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
# Frames in a row before the decoder accepts the first (MA_DR_MP3_MAX_FRAME_SYNC_MATCHES).
_MP3_MATCHES: Final = 10
_MP3_CANDIDATES: Final = 4096  # headers that are tried, a choice that bounds time
_MP3_TAG: Final = re.compile(b"Xing|Info")
# Offsets of a Xing or Info tag in its frame: header 4, CRC 0 or 2, side information 9, 17 or 32.
_MP3_TAG_OFFSETS: Final = (13, 15, 21, 23, 36, 38)
_NO_COUNT: Final = 0xFFFFFFFF  # the decoder treats it as no count
# Some bytes of a frame's data look like headers: one in 6,650, while a frame has 100 to 1,000
# bytes. So some 15 % more frames than there are may be counted; the rest allows for larger frames
# and for chance.
_MP3_RESERVE: Final = 1.25


@dataclass(frozen=True, slots=True)
class SoundHeader:
    """Format of audio, samples per second, channels, and an upper bound of its duration."""

    format: str
    rate: int
    channels: int
    seconds: float


def read_sound_header(data: bytes) -> SoundHeader:
    """Return the header of audio that is safe to decode.

    Raises BadMedia if the file has another format, is damaged, declares more samples than it can
    hold, or is too long. The message continues a sentence that begins with the file's name.
    """
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return _read_wav(data)
    at = _after_id3(data)
    if data[at : at + 4] == b"fLaC":
        return _read_flac(data, at)
    if at or _MP3_SYNC.match(data):
        return _read_mp3(data, at)
    raise BadMedia("is not audio that g4 reads")


def _check_header(
    format_: str, rate: int, channels: int, n_samples: int, reserve: float = 1.0
) -> SoundHeader:
    """Return the header of a sound within the limits. Raises BadMedia for others.

    `n_samples` may be up to `reserve` times the true number.
    """
    if not MIN_RATE <= rate <= MAX_RATE:
        raise BadMedia(
            f"has {rate:,} samples per second, which g4 does not read "
            f"({MIN_RATE:,} to {MAX_RATE:,})"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise BadMedia(f"has {channels} channels, which g4 does not read (1 to {MAX_CHANNELS})")
    if n_samples < 1:
        raise BadMedia("is damaged: it holds no samples")
    if n_samples > rate * MAX_SECONDS * reserve:
        raise BadMedia(f"is too long: more than {MAX_SECONDS:,} s of audio")
    return SoundHeader(format_, rate, channels, n_samples / rate)


def _after_id3(data: bytes) -> int:
    """Return the offset after the ID3v2 tags, 0 if there is none.

    Source: https://id3.org/id3v2.4.0-structure, section 3.1.
    """
    at = 0
    for _ in range(_MAX_PARTS):
        if data[at : at + 3] != b"ID3":
            return at
        flags, *size = unpack_at(data, "5B", at + 5)
        at += 10 + sum(
            (part & 0x7F) << shift for part, shift in zip(size, (21, 14, 7, 0), strict=True)
        )
        at += 10 if flags & 0x10 else 0
    raise BadMedia(_TOO_MANY)


def _read_wav(data: bytes) -> SoundHeader:
    # Multimedia Programming Interface and Data Specifications 1.0, IBM and Microsoft, 1991, "WAVE"
    (riff_size,) = unpack_at(data, "<I", 4)
    if riff_size < 36:
        raise BadMedia("is damaged: its RIFF header is not valid")
    at, form = 12, None
    for _ in range(_MAX_PARTS):
        size = unpack_at(data, "<4sI", at)[1]
        kind, at = data[at : at + 4], at + 8
        if kind == b"data":
            break
        if at + size > len(data) or (kind == b"fact" and size < 4):
            raise BadMedia("is damaged: it ends too early")
        if kind == b"fmt ":
            if form is not None:
                raise BadMedia("is damaged: it has two fmt chunks")
            form = _wav_format(data, at, size)
        at += size + size % 2
    else:
        raise BadMedia(_TOO_MANY)
    if form is None:
        raise BadMedia("is damaged: it has no fmt chunk")
    rate, channels, frame_bytes = form
    left = len(data) - at
    if left < size < _STREAMED:
        raise BadMedia("is damaged: it ends before its last sample")
    return _check_header("wav", rate, channels, min(size, left) // frame_bytes)


def _wav_format(data: bytes, at: int, size: int) -> tuple[int, int, int]:
    """Return samples per second, channels, and the bytes of one sample of all channels."""
    tag, channels, rate, _, frame_bytes, bits = unpack_at(data, "<HHIIHH", at)
    if size < 16 or (size > 16 and unpack_at(data, "<H", at + 16)[0] > size - 18):
        raise BadMedia("is damaged: its WAV header is not valid")
    if tag == _WAV_EXTENSIBLE:
        if size < 40:
            raise BadMedia("is damaged: its WAV header is not valid")
        (tag,) = unpack_at(data, "<H", at + 24)
    if tag not in _WAV_BITS:
        raise BadMedia("is a WAV with a compression that g4 does not read")
    if bits not in _WAV_BITS[tag] or frame_bytes != channels * bits // 8 or not frame_bytes:
        raise BadMedia("is damaged: its WAV header is not valid")
    return rate, channels, frame_bytes


def _read_flac(data: bytes, at: int) -> SoundHeader:
    # RFC 9639, 8.1 metadata block header, 8.2 streaminfo
    at += 4
    (head,) = unpack_at(data, ">I", at)
    if head & 0x7FFFFFFF != 34:  # without its first bit (the last block): type 0, 34 bytes
        raise BadMedia("is damaged: its FLAC header is missing")
    _, max_block, _, _, packed = unpack_at(data, ">HH3s3sQ", at + 4)
    # From the top: 20 bits of rate, 3 of channels, 5 of sample size, 36 of samples.
    rate, channels = packed >> 44, (packed >> 41 & 7) + 1
    n_samples = packed & (1 << 36) - 1
    if n_samples == 0:
        raise BadMedia("does not declare its length")
    header = _check_header("flac", rate, channels, n_samples)
    for _ in range(_MAX_PARTS):
        (head,) = unpack_at(data, ">I", at)
        at += 4 + (head & 0xFFFFFF)
        if at > len(data):
            raise BadMedia("is damaged: it ends too early")
        if head >> 31:  # the last one
            break
    else:
        raise BadMedia(_TOO_MANY)
    if n_samples > ((len(data) - at) // _FLAC_MIN_FRAME_BYTES) * max_block:
        raise BadMedia("is damaged: it cannot hold as many samples as its header declares")
    return header


@dataclass(frozen=True, slots=True)
class _Frame:
    """The decoded header of an MPEG audio frame; `n_bytes` is 0 if it has none (free format)."""

    rate: int
    channels: int
    n_bytes: int


def _mp3_frame(data: bytes, at: int) -> _Frame:
    """Return the frame whose header is at byte `at` (ISO/IEC 11172-3, 2.4.1.3 and 2.4.2.3)."""
    second, third, fourth = data[at + 1], data[at + 2], data[at + 3]
    is_low = not second & 8  # MPEG-2 and 2.5 have half and a quarter of the rates
    layer = 4 - (second >> 1 & 3)
    rate = _MP3_RATES[third >> 2 & 3] >> (is_low + (not second & 0x10))
    kbits = _MP3_KBITS[is_low, layer][third >> 4]
    n_bytes = _MP3_SAMPLES[second] * kbits * 125 // rate  # 125 bytes are a kilobit
    if layer == 1:  # counts in slots of 4 bytes
        n_bytes &= ~3
    padding = (third >> 1 & 1) * (4 if layer == 1 else 1)
    return _Frame(rate, 1 if fourth >> 6 == 3 else 2, n_bytes + padding if kbits else 0)


def _mp3_run(data: bytes, at: int) -> int:
    """Return how many frames of the same kind follow the one at `at` without a gap, at most 10.

    A run that ends with the file counts as 10, as it does for the decoder.
    """
    # What all frames of a file share: version and layer, and the rate.
    second, third = data[at + 1] & 0xFE, data[at + 2] & 0x0C
    for n_following in range(_MP3_MATCHES):
        n_bytes = _mp3_frame(data, at).n_bytes
        if not n_bytes:
            return n_following
        at += n_bytes
        if at + 4 > len(data):
            return _MP3_MATCHES if n_following or at == len(data) else 0
        if (
            not _MP3_SYNC.match(data, at)
            or data[at + 1] & 0xFE != second
            or data[at + 2] & 0x0C != third
        ):
            return n_following
    return _MP3_MATCHES


def _read_mp3(data: bytes, at: int) -> SoundHeader:
    # A frame can begin at any header. Counting all of them, also bytes that only look like one,
    # and taking the lowest rate of all that may be the first gives an upper bound of the duration.
    rate, channels = 0, 0
    for match in islice(_MP3_SYNC.finditer(data, at, len(data) - 1), _MP3_CANDIDATES):
        run = _mp3_run(data, match.start())
        frame = _mp3_frame(data, match.start())
        if run or not frame.n_bytes:  # the decoder looks for the next frame of a free format
            rate, channels = min(rate, frame.rate) or frame.rate, frame.channels
        if run == _MP3_MATCHES:
            break
    else:
        raise BadMedia("is damaged: no MP3 frame was found")
    _check_mp3_tags(data, at, rate)
    n_samples, most = 0, rate * MAX_SECONDS * _MP3_RESERVE
    for match in _MP3_SYNC.finditer(data, at, len(data) - 1):
        n_samples += _MP3_SAMPLES[data[match.start() + 1]]
        if n_samples > most:
            break
    return _check_header("mp3", rate, channels, n_samples, _MP3_RESERVE)


def _check_mp3_tags(data: bytes, at: int, rate: int) -> None:
    """Raise BadMedia if a Xing or Info tag declares too many frames.

    The decoder allocates as many as it declares.
    """
    most = rate * MAX_SECONDS * _MP3_RESERVE
    for n_before, tag in enumerate(_MP3_TAG.finditer(data, at + 1, len(data) - 8)):
        if n_before == _MAX_PARTS:
            raise BadMedia(_TOO_MANY)
        flags, n_frames = unpack_at(data, ">II", tag.end())
        if not flags & 1 or n_frames == _NO_COUNT:  # the first flag: a number of frames follows
            continue
        for start in (tag.start() - offset for offset in _MP3_TAG_OFFSETS):
            is_frame = start >= at and _MP3_SYNC.match(data, start)
            if is_frame and n_frames * _MP3_SAMPLES[data[start + 1]] > most:
                raise BadMedia(f"is too long: it declares more than {MAX_SECONDS:,} s of audio")
