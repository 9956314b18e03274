"""A cursor over the bytes of an untrusted GGUF header; every read checks length and limits."""

from __future__ import annotations

from struct import Struct
from typing import Any, Final

from g4cli.core.errors import BadGGUF
from g4cli.core.gguf_values import U32, U64
from g4cli.core.units import count_text

MAGIC: Final = b"GGUF"
DEFAULT_ALIGNMENT: Final = 32  # GGUF_DEFAULT_ALIGNMENT, ggml/include/gguf.h
_PIECE_BYTES: Final = 1 << 20  # copied at once: a choice


class Limits:
    """Bounds on time and memory for untrusted files, far above those of published Gemma 4 files.

    Where no source is named, the number is a choice.
    """

    VERSIONS: Final = (2, 3)  # version 1 of 2023 has 32-bit lengths
    KEYS: Final = 100_000  # Gemma 4's files have about 50
    TENSORS: Final = 100_000  # up to 2,000
    KEY_BYTES: Final = 65_535  # docs/gguf.md: at most 2^16 - 1
    NAME_BYTES: Final = 63  # GGML_MAX_NAME is 64 with its terminating zero
    STRING_BYTES: Final = 64 * 1024**2  # the longest, a chat template, has some 20,000
    HEADER_BYTES: Final = 128 * 1024**2  # Gemma 4's headers have 16 MiB
    DIMS: Final = 4  # GGML_MAX_DIMS
    ALIGNMENT: Final = (8, 65_536)  # the least (docs/gguf.md: a multiple of 8), and the largest
    ELEMENTS: Final = 2**63  # of a tensor: llama.cpp counts them in an int64


class HeaderIncomplete(BadGGUF):
    """The header is longer than the bytes present.

    The item at offset `at` needs the bytes up to offset `needed`, or more.
    """

    reference = "header-incomplete"

    def __init__(self, path: str, needed: int, at: int) -> None:
        super().__init__(path, "the header is incomplete", offset=needed)
        self.needed, self.at = needed, at


class Cursor:
    """The position `pos` in the buffer of a header; every read checks its length first.

    The bytes from `pos` to `end` are present; the file has `file_size` bytes.
    """

    __slots__ = ("buffer", "end", "file_size", "path", "pos")

    def __init__(self, buffer: Any, path: str, file_size: int) -> None:
        self.buffer, self.path, self.file_size = buffer, path, file_size
        self.end = len(buffer)
        self.pos = 0

    def fault_at(self, what: str, offset: int | None = None, name: str | None = None) -> BadGGUF:
        """Return the error for a fault at `offset` (default: here) in the field `name`."""
        return BadGGUF(self.path, what, offset=self.pos if offset is None else offset, field=name)

    def require_bytes(self, n: int, what: str) -> None:
        """Raise BadGGUF unless the file has `n` more bytes, HeaderIncomplete if they are absent."""
        self.check_limits(n, what)
        if self.pos + n > self.end:
            raise HeaderIncomplete(self.path, self.pos + n, self.pos)

    def check_limits(self, n: int, what: str) -> None:
        """Raise BadGGUF if the header of this file cannot have `n` more bytes."""
        if self.pos + n > Limits.HEADER_BYTES:
            raise self.fault_at(
                f"the header is longer than {Limits.HEADER_BYTES:,} bytes", name=what
            )
        if self.pos + n > self.file_size:
            raise self.fault_at(
                f"truncated: {what} needs {count_text(n, 'byte')}, "
                f"{count_text(self.file_size - self.pos, 'byte', 'are')} left"
            )

    def skip_numbers(self, n: int, name: str) -> None:
        """Skip an array of numbers, which has `n` bytes."""
        self.require_bytes(n, name)
        self.pos += n

    def read_u32(self, what: str) -> int:
        """Return the next u32."""
        return self._read_number(U32, what)

    def read_u64(self, what: str) -> int:
        """Return the next u64."""
        return self._read_number(U64, what)

    def _read_number(self, layout: Struct, what: str) -> int:
        self.require_bytes(layout.size, what)
        (value,) = layout.unpack_from(self.buffer, self.pos)
        self.pos += layout.size
        return int(value)

    def read_text(self, limit: int, what: str) -> str:
        """Return the next string, at most `limit` bytes of valid UTF-8."""
        start = self.pos
        length = self.read_u64(what)
        if length > limit:
            raise self.fault_at(f"{what} claims {length:,} bytes, more than {limit:,}", start)
        self.require_bytes(length, what)
        raw = self.buffer[self.pos : self.pos + length]
        try:
            value = bytes(raw).decode("utf-8")
        except UnicodeDecodeError as err:
            raise self.fault_at(f"{what} is not valid UTF-8", self.pos + err.start) from err
        self.pos += length
        return value

    def read_name(self, limit: int, what: str) -> str:
        """Return the next string. Raises BadGGUF for a NUL byte, which ends a name in C."""
        start = self.pos
        value = self.read_text(limit, what)
        if "\0" in value:
            raise self.fault_at(f"{what} holds a NUL byte", start)
        return value

    def skip_strings(self, count: int, name: str) -> None:
        """Skip `count` strings. This loop decides the speed: Gemma 4 has 777,050 of them."""
        position, unpack, buffer = self.pos, U64.unpack_from, self.buffer
        end = min(self.end, Limits.HEADER_BYTES) - 8
        limit = Limits.STRING_BYTES
        for _ in range(count):
            if position > end:
                break
            length = unpack(buffer, position)[0]
            if length > limit:
                raise self.fault_at(f"a string claims {length:,} bytes", position, name)
            position += length + 8
        else:
            if position <= end + 8:
                self.pos = position
                return
        # The loop left the buffer, before the length of an item or inside an item: this raises.
        self.pos = min(position, self.file_size)
        self.require_bytes(max(8, position - self.pos), f"an item of {name}")

    def check_bools(self, start: int, name: str) -> None:
        """Raise BadGGUF unless every byte from `start` to here is 0 or 1."""
        for at in range(start, self.pos, _PIECE_BYTES):
            piece = bytes(self.buffer[at : min(at + _PIECE_BYTES, self.pos)])
            wrong = piece.translate(None, b"\0\1")
            if wrong:
                raise self.fault_at("a bool is neither 0 nor 1", at + piece.index(wrong[0]), name)
