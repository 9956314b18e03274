"""A header of which only pieces are at hand: what need not be seen is stepped over.

Arrays of numbers tell their own length. Arrays of strings do not: each string must be walked to find the
next. But Gemma 4's vocabulary is known, so its arrays may be stepped over by their known length. Whether that
was right shows where the step lands: there the next key must stand, every check of the reader must pass to
the last tensor, and the last tensor must end where the file does. `PieceCursor.jumped` tells the caller that
this has to be asked (`lands_well`), and that a fault may be the jump's and not the file's. What was stepped
over has not been checked: enough to know a network's shape, not to trust its vocabulary.
"""

from __future__ import annotations

import mmap
from types import MappingProxyType
from typing import Final

from g4cli.core.gguf_cursor import Cursor, HeaderIncomplete, Limits
from g4cli.core.gguf_header import Header

# Source: models/ggml-vocab-gemma-4.gguf, llama.cpp@0c1e57098: the published files hold the same arrays
# (their headers are as long: reference tables of file sizes less the sums of tensors).
KNOWN_STRINGS: Final = MappingProxyType(
    {
        # key, items: bytes, each string's u64 length included
        ("tokenizer.ggml.tokens", 262_144): 4_413_447,
        ("tokenizer.ggml.merges", 514_906): 9_251_719,
    }
)
_WORTH_BYTES: Final = 1 << 16  # shorter arrays of numbers are read: the shape needs them


class Pieces:
    """Pieces of a file's first bytes; `buffer` holds them at their places, zeros between them."""

    def __init__(self, file_size: int) -> None:
        self.buffer = mmap.mmap(
            -1, max(1, min(file_size, Limits.HEADER_BYTES))
        )  # takes what is written
        self._spans: list[tuple[int, int]] = []

    def put(self, start: int, data: bytes | bytearray) -> None:
        """Add a piece. It must lie within the buffer."""
        self.buffer[start : start + len(data)] = bytes(data)
        merged = (start, start + len(data))
        kept = []
        for span in self._spans:
            if span[1] < merged[0] or merged[1] < span[0]:
                kept.append(span)
            else:
                merged = (min(span[0], merged[0]), max(span[1], merged[1]))
        self._spans = sorted([*kept, merged])

    def end_of(self, position: int) -> int:
        """Return where the piece that holds `position` ends; `position` itself if none does."""
        return next((end for start, end in self._spans if start <= position < end), position)

    def next_start(self, position: int) -> int:
        """Return where the next piece behind `position` starts, the end of the buffer if there is none."""
        return next((start for start, _ in self._spans if start > position), len(self.buffer))

    def keep_prefix(self) -> None:
        """Forget every piece but the one at the start."""
        self._spans = [span for span in self._spans if span[0] == 0]


class PieceCursor(Cursor):
    """A cursor over pieces. With `jumps` known arrays of strings are stepped over, and `jumped` tells so."""

    __slots__ = ("jumped", "jumps", "pieces")

    def __init__(self, pieces: Pieces, path: str, file_size: int, *, jumps: bool) -> None:
        super().__init__(pieces.buffer, path, file_size)
        self.pieces, self.jumps, self.jumped = pieces, jumps, False

    def require_bytes(self, n: int, what: str) -> None:
        """Raise unless `n` more bytes are in one piece: BadGGUF, or HeaderIncomplete if the file has them."""
        self.end = self.pieces.end_of(self.pos)
        super().require_bytes(n, what)

    def skip_numbers(self, n: int, name: str) -> None:
        """Step over `n` bytes of numbers, here or not."""
        if n < _WORTH_BYTES or not self.jumps:
            return super().skip_numbers(n, name)
        self.check_limits(n, name)
        self.pos += n
        return None

    def skip_strings(self, count: int, name: str) -> None:
        """Step over `count` strings: by their known length, or by a walk through what is here."""
        known = KNOWN_STRINGS.get((name, count)) if self.jumps else None
        if known is None:
            start = self.pos
            self.end = self.pieces.end_of(start)
            try:
                return super().skip_strings(count, name)
            except HeaderIncomplete as gap:  # a walk has no holes: it goes on where this piece ends
                raise HeaderIncomplete(self.path, gap.needed, start) from gap
        self.check_limits(known, name)
        self.pos += known
        self.jumped = True
        return None


def lands_well(header: Header) -> bool:
    """Return whether a header read with jumps accounts for every byte of its file."""
    return header.trailing_bytes == 0
