"""Read a header of which only pieces are present, as of a file on the hub.

The length of an array of numbers follows from its count. That of an array of strings does not: each
string must be read to find the next. But the vocabulary of Gemma 4 is known, so its arrays may be
skipped by their known lengths. If such a jump is wrong, what follows shows it: the reader expects a
key there, checks everything up to the last tensor, and the last tensor must end where the file
does.

`PieceCursor.jumped` tells the caller to check this (`Header.trailing_bytes` is 0), and that a fault
may come from the jump instead of the file. What was skipped has not been checked: that is enough to
know a network's shape, but not to trust its vocabulary.
"""

from __future__ import annotations

import mmap
from types import MappingProxyType
from typing import Final

from g4cli.core.gguf_cursor import Cursor, HeaderIncomplete, Limits
from g4cli.core.spans import Span, merge_spans

# Source: models/ggml-vocab-gemma-4.gguf, llama.cpp@0c1e57098. Published files have the same arrays:
# their headers are as long (file size minus the sum of the tensors).
KNOWN_STRINGS: Final = MappingProxyType(
    {
        # (key, number of strings): bytes, each string's u64 length included
        ("tokenizer.ggml.tokens", 262_144): 4_413_447,
        ("tokenizer.ggml.merges", 514_906): 9_251_719,
    }
)
# Arrays of numbers below this many bytes are read, because the network's shape may be among them:
# an array with a number for each of 512 layers has 4 KiB, the scores of the vocabulary 1 MiB.
MIN_JUMP_BYTES: Final = 1 << 16


class Pieces:
    """Pieces of a file's header, at their offsets in `buffer`, with zeros between them."""

    def __init__(self, file_size: int) -> None:
        # Anonymous memory: pages that are never written take none.
        self.buffer = mmap.mmap(-1, max(1, min(file_size, Limits.HEADER_BYTES)))
        self._spans: list[Span] = []

    def add_piece(self, start: int, data: bytes | bytearray) -> None:
        """Add the piece at the offset `start`, which must be within the buffer."""
        self.buffer[start : start + len(data)] = bytes(data)
        self._spans = merge_spans([*self._spans, (start, start + len(data))])

    def end_of(self, position: int) -> int:
        """Return the end of the piece that contains `position`, or `position` if none does."""
        return next((end for start, end in self._spans if start <= position < end), position)

    def next_start(self, position: int) -> int:
        """Return the start of the next piece after `position`, or the end of the buffer."""
        return next((start for start, _ in self._spans if start > position), len(self.buffer))

    def keep_prefix(self) -> None:
        """Drop every piece except the one at the start: the others began where a jump led."""
        self._spans = [span for span in self._spans if span[0] == 0]


class PieceCursor(Cursor):
    """A cursor over pieces. With `jumps` it skips known arrays of strings and sets `jumped`."""

    __slots__ = ("jumped", "jumps", "min_jump_bytes", "pieces")

    def __init__(
        self,
        pieces: Pieces,
        path: str,
        file_size: int,
        *,
        jumps: bool,
        min_jump_bytes: int = MIN_JUMP_BYTES,
    ) -> None:
        super().__init__(pieces.buffer, path, file_size)
        self.pieces, self.jumps, self.jumped = pieces, jumps, False
        self.min_jump_bytes = min_jump_bytes

    def require_bytes(self, n: int, what: str) -> None:
        """Raise BadGGUF unless the file has `n` more bytes, HeaderIncomplete unless a piece has."""
        self.end = self.pieces.end_of(self.pos)
        super().require_bytes(n, what)

    def skip_numbers(self, n: int, name: str) -> None:
        """Skip an array of numbers, which has `n` bytes; a long one need not be present."""
        if n < self.min_jump_bytes or not self.jumps:
            super().skip_numbers(n, name)
        else:
            self.check_limits(n, name)
            self.pos += n

    def skip_strings(self, count: int, name: str) -> None:
        """Skip `count` strings, by their known length or by reading the length of each."""
        known = KNOWN_STRINGS.get((name, count)) if self.jumps else None
        if known is not None:
            self.check_limits(known, name)
            self.pos += known
            self.jumped = True
            return
        start = self.pos
        self.end = self.pieces.end_of(start)
        try:
            super().skip_strings(count, name)
        except HeaderIncomplete as gap:
            # Strings cannot be skipped in part: all from `start` on must be present.
            raise HeaderIncomplete(self.path, gap.needed, start) from gap
