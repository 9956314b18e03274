"""Incremental decoding of token bytes to text."""

from __future__ import annotations

import codecs


class TextDecoder:
    """UTF-8 decoder that returns a character split over several tokens with its last byte."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, data: bytes) -> str:
        """Return the characters that `data` completes; invalid bytes become U+FFFD."""
        return self._decoder.decode(data)

    def flush(self) -> str:
        """Return U+FFFD for an incomplete character at the end, or "", and reset the decoder."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
