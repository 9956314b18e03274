"""The header of a file on the hub, read by byte ranges: what `g4 fit` needs of it before it is
fetched.

A Gemma 4 header holds the vocabulary: 15.8 MB between the network's keys and its tensors. The known
vocabulary is stepped over (core.gguf_pieces): half a megabyte in six ranges. Any other is read
whole, in pieces that double, since the lengths of its strings must be walked. The weights are never
asked for.
"""

from __future__ import annotations

import http.client
from typing import Final

from g4cli.core.errors import BadGGUF, NetworkError
from g4cli.core.gguf import parse_header
from g4cli.core.gguf_cursor import HeaderIncomplete
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_pieces import PieceCursor, Pieces, accounts_for_file
from g4cli.core.hub_name import HUB_PREFIX
from g4cli.core.progress import Progress, no_progress
from g4cli.hub.client import Hub, Location, Repository
from g4cli.hub.connection import BadAnswer, Connection
from g4cli.hub.listing import RemoteFile

_FIRST_BYTES: Final = 1 << 17
_LANDING_BYTES: Final = 1 << 16  # behind a jump: often one more key, and the next jump
_FOREIGN_BYTES: Final = 1 << 20  # no jump so far: it is another vocabulary
_MOST_BYTES: Final = 1 << 23
# A header made to mislead the jumps may not ask for more than the walk would.
_JUMP_RANGES: Final = 16
_JUMP_BYTES: Final = 1 << 22
_ATTEMPTS: Final = 3


def remote_header(
    hub: Hub,
    repository: Repository,
    file: RemoteFile,
    *,
    whole: bool = False,
    progress: Progress = no_progress,
) -> Header:
    """Return the checked header of `file`; arrays that were stepped over are fetched when they are
    looked at.

    With `whole` every byte of the header is read and none stepped over. Raises BadGGUF for a file
    that is none, NetworkError if the server does not give the bytes.
    """
    source = _Source(hub, repository, file, progress)
    try:
        header = None if whole else _read_with_jumps(source)
        return header or _read_by_walking(source)
    finally:
        source.close()


def _read_with_jumps(source: _Source) -> Header | None:
    """Return the header, or None if a jump may have gone wrong: the walk decides."""
    cursor = source.cursor(jumps=True)
    for _ in range(_JUMP_RANGES):
        try:
            header = source.parse(cursor)
        except HeaderIncomplete as gap:
            start = source.pieces.end_of(gap.at)
            most = _JUMP_BYTES if cursor.jumped else _FOREIGN_BYTES
            step = _LANDING_BYTES if cursor.jumped else _FIRST_BYTES
            end = max(gap.needed, start + step)
            if source.fetched_bytes + end - start > most:
                break
            source.fetch(start, end)
            cursor = source.cursor(jumps=True)
        except BadGGUF:
            if not cursor.jumped:
                raise
            return None
        else:
            return header if accounts_for_file(header) or not cursor.jumped else None
    return None


def _read_by_walking(source: _Source) -> Header:
    """Return the header, every byte of it read."""
    source.pieces.keep_prefix()
    while True:
        try:
            return source.parse(source.cursor(jumps=False))
        except HeaderIncomplete as gap:
            have = source.pieces.end_of(0)
            source.fetch(have, max(gap.needed, have + min(max(have, _FIRST_BYTES), _MOST_BYTES)))


class _Source:
    """The pieces of one file on the hub."""

    def __init__(
        self, hub: Hub, repository: Repository, file: RemoteFile, progress: Progress
    ) -> None:
        self._hub, self._repository, self._file, self._progress = hub, repository, file, progress
        self.label = f"{HUB_PREFIX}{repository.repo}/{file.path}"
        self.pieces = Pieces(file.nbytes)
        self.fetched_bytes = 0
        self._connection = Connection()
        self._location: Location | None = None

    def cursor(self, *, jumps: bool) -> PieceCursor:
        """Return a cursor at the start; the first bytes are fetched if they are not here."""
        if not self.pieces.end_of(0):
            self.fetch(0, _FIRST_BYTES)
        return PieceCursor(self.pieces, self.label, self._file.nbytes, jumps=jumps)

    def parse(self, cursor: PieceCursor) -> Header:
        """Return the header that `cursor` reads."""
        return parse_header(
            self.pieces.buffer,
            path=self.label,
            file_size=self._file.nbytes,
            load=self._load_range,
            cursor=cursor,
        )

    def close(self) -> None:
        """Close the connection; an array that is looked at later opens another."""
        self._connection.close()

    def fetch(self, start: int, end: int) -> None:
        """Fetch bytes `start` to `end`, the file's end at most; a broken connection is tried
        again.
        """
        end = min(end, self._file.nbytes, self.pieces.next_start(start))
        data = bytearray()
        attempts = 0
        while len(data) < end - start:
            # The address is asked for once, and again after a fault: it may have expired.
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
                        hint="try again, or g4 pull it and fit the file",
                    ) from err
        self.pieces.add_piece(start, data)
        self.fetched_bytes += len(data)
        self._progress(self.fetched_bytes, 0, "header")

    def _read_range(self, location: Location, start: int, end: int, data: bytearray) -> None:
        """Append bytes to `data` until it holds all from `start` to `end`."""
        at = start + len(data)
        body = self._connection.get_range(location.url, location.headers, at, end)
        piece = bytearray(min(1 << 18, end - at))
        while at < end:
            n = body.readinto(memoryview(piece)[: end - at])
            if n == 0:
                raise http.client.IncompleteRead(b"", end - at)
            data += piece[:n]
            at += n

    def _load_range(self, offset: int, n: int) -> bytes:
        while self.pieces.end_of(offset) < offset + n:
            self.fetch(self.pieces.end_of(offset), offset + n)
        self.close()
        return bytes(self.pieces.buffer[offset : offset + n])
