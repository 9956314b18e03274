"""Token bytes to text: characters come out as soon as they are complete, and no byte is lost."""

from __future__ import annotations

import codecs


class TextDecoder:
    """Incremental UTF-8: a character split over several tokens appears with its last byte."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, data: bytes) -> str:
        """Return the characters that `data` completes; invalid bytes become U+FFFD."""
        return self._decoder.decode(data)

    def flush(self) -> str:
        """Return what is left of an unfinished character (U+FFFD), and start afresh."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
