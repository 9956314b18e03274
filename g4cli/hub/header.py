"""Read the GGUF header of a file on the hub by byte ranges, without its weights.

A Gemma 4 header holds the vocabulary: 15.8 MB between the network's keys and its tensors. The known
vocabulary is skipped (core.gguf_pieces), so that half a megabyte in six ranges is enough. A header
with any other vocabulary is read completely, in pieces that double, because each string must be
read to find the next.
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass
from typing import Final

from g4cli.core.errors import BadGGUF, NetworkError
from g4cli.core.gguf import parse_header
from g4cli.core.gguf_cursor import HeaderIncomplete
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_pieces import MIN_JUMP_BYTES, PieceCursor, Pieces
from g4cli.core.hub_address import HUB_PREFIX
from g4cli.hub.client import Hub, Location, Repository
from g4cli.hub.connection import BadAnswer, Connection
from g4cli.hub.listing import RemoteFile

# So many bytes without a jump: the file has another vocabulary. Gemma 4's begins within 10 KB.
_MAX_BYTES_BEFORE_JUMP: Final = 1 << 20
_MAX_REQUEST_BYTES: Final = 1 << 23  # a choice, where a header is read completely
# A header made to mislead the jumps may not cause more requests than reading all of it.
_MAX_JUMP_REQUESTS: Final = 16
_MAX_JUMP_BYTES: Final = 1 << 22
_ATTEMPTS: Final = 3  # a choice
_BUFFER_BYTES: Final = 1 << 18  # read at once: a choice


@dataclass(frozen=True, slots=True)
class ReadSizes:
    """How many bytes of a header are requested at a time.

    A request takes as long as 128 KiB on a usual line (50 ms, 20 Mbit/s), so less is not worth it.
    """

    first: int = 1 << 17
    landing: int = 1 << 16  # where a jump ends: often one more key, and the next jump
    min_jump: int = MIN_JUMP_BYTES  # arrays of fewer bytes are read


def remote_header(
    hub: Hub,
    repository: Repository,
    file: RemoteFile,
    *,
    whole: bool = False,
    connection: Connection | None = None,
    sizes: ReadSizes | None = None,
) -> Header:
    """Return the checked header of `file`; skipped arrays are fetched when they are used.

    With `whole` every byte of the header is read and checked. The bytes come over `connection`, by
    default a new one, in pieces of `sizes`. Raises BadGGUF if the file is not a GGUF,
    NetworkError if the server does not send the bytes.
    """
    source = _Source(hub, repository, file, connection or Connection(), sizes or ReadSizes())
    try:
        header = None if whole else _read_with_jumps(source)
        return header or _read_completely(source)
    finally:
        source.close()


def _read_with_jumps(source: _Source) -> Header | None:
    """Return the header, or None if it has to be read completely.

    That is so without the known vocabulary, and where a jump may have gone wrong.
    """
    cursor = source.make_cursor(jumps=True)
    for _ in range(_MAX_JUMP_REQUESTS):
        try:
            header = source.parse_pieces(cursor)
        except HeaderIncomplete as gap:  # at offset `gap.at` bytes up to `gap.needed` are absent
            start = source.pieces.end_of(gap.at)
            # No jump in the first megabyte means another vocabulary: read that header completely.
            most = _MAX_JUMP_BYTES if cursor.jumped else _MAX_BYTES_BEFORE_JUMP
            step = source.sizes.landing if cursor.jumped else source.sizes.first
            end = max(gap.needed, start + step)
            if source.fetched_bytes + end - start > most:
                break
            source.fetch_range(start, end)
            cursor = source.make_cursor(jumps=True)
        except BadGGUF:
            if not cursor.jumped:
                raise
            return None
        else:
            return header if not cursor.jumped or header.trailing_bytes == 0 else None
    return None


def _read_completely(source: _Source) -> Header:
    """Return the header after reading every byte of it."""
    source.pieces.keep_prefix()
    while True:
        try:
            return source.parse_pieces(source.make_cursor(jumps=False))
        except HeaderIncomplete as gap:
            start = source.pieces.end_of(0)
            step = min(max(start, source.sizes.first), _MAX_REQUEST_BYTES)
            source.fetch_range(start, max(gap.needed, start + step))


class _Source:
    """The pieces of one file's header that have been fetched, and the way to fetch more."""

    def __init__(
        self,
        hub: Hub,
        repository: Repository,
        file: RemoteFile,
        connection: Connection,
        sizes: ReadSizes,
    ) -> None:
        self.sizes, self._connection = sizes, connection
        self._hub, self._repository, self._file = hub, repository, file
        self.label = f"{HUB_PREFIX}{repository.repo}/{file.path}"
        self.pieces = Pieces(file.nbytes)
        self.fetched_bytes = 0
        self._location: Location | None = None

    def make_cursor(self, *, jumps: bool) -> PieceCursor:
        """Return a cursor at the start; fetches the first bytes if they are absent."""
        if not self.pieces.end_of(0):
            self.fetch_range(0, self.sizes.first)
        return PieceCursor(
            self.pieces,
            self.label,
            self._file.nbytes,
            jumps=jumps,
            min_jump_bytes=self.sizes.min_jump,
        )

    def parse_pieces(self, cursor: PieceCursor) -> Header:
        """Return the header that `cursor` reads. Raises HeaderIncomplete or BadGGUF."""
        return parse_header(
            self.pieces.buffer,
            path=self.label,
            file_size=self._file.nbytes,
            load=self._load_range,
            cursor=cursor,
        )

    def close(self) -> None:
        """Close the connection; an array that is used later opens another."""
        self._connection.close()

    def fetch_range(self, start: int, end: int) -> None:
        """Fetch the bytes from `start` to `end`, with retries. Raises NetworkError."""
        end = min(end, self._file.nbytes, self.pieces.next_start(start))
        data = bytearray()
        attempts = 0
        while len(data) < end - start:
            # The URL is requested once, and again after a failure, because it may have expired.
            self._location = self._location or self._hub.locate_file(self._repository, self._file)
            try:
                self._read_range(self._location, start, end, data)
            except (OSError, http.client.HTTPException, BadAnswer) as err:
                self._connection.close()
                self._location = None
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise NetworkError(
                        f"{self.label}: the header cannot be read: {err}",
                        hint="run the command again, or download the file with g4 pull first",
                    ) from err
        self.pieces.add_piece(start, data)
        self.fetched_bytes += len(data)

    def _read_range(self, location: Location, start: int, end: int, data: bytearray) -> None:
        """Append bytes to `data` until it holds all from `start` to `end`."""
        at = start + len(data)
        body = self._connection.get_range(location.url, location.headers, at, end)
        piece = bytearray(min(_BUFFER_BYTES, end - at))
        while at < end:
            n = body.readinto(memoryview(piece)[: end - at])
            if n == 0:
                raise http.client.IncompleteRead(b"", end - at)
            data += piece[:n]
            at += n

    def _load_range(self, offset: int, n: int) -> bytes:
        """Return `n` bytes of an array that was skipped; the header calls this for its values."""
        while self.pieces.end_of(offset) < offset + n:
            self.fetch_range(self.pieces.end_of(offset), offset + n)
        self.close()
        return bytes(self.pieces.buffer[offset : offset + n])
