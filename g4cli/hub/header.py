"""The header of a file on the hub, read by byte ranges: what `g4 fit` needs of it before it is fetched.

A Gemma 4 header holds the vocabulary (16 MB of strings whose lengths must be walked), so it is read in pieces
that double until it is whole; the weights behind it are never asked for.
"""

from __future__ import annotations

import http.client
from functools import partial
from typing import Final

from g4cli.core.errors import NetworkError
from g4cli.core.gguf import Header, parse_header
from g4cli.core.gguf_cursor import HeaderIncomplete
from g4cli.core.progress import Progress, no_progress
from g4cli.hub.client import Hub, Repository
from g4cli.hub.connection import BadAnswer, Connection
from g4cli.hub.listing import RemoteFile

_FIRST_BYTES: Final = 1 << 20
_MOST_BYTES: Final = 1 << 23
_ATTEMPTS: Final = 3


def remote_header(
    hub: Hub, repository: Repository, file: RemoteFile, *, progress: Progress = no_progress
) -> Header:
    """Return the checked header of `file`; its arrays are held in memory.

    Raises BadGGUF for a file that is none, NetworkError if the server does not give the bytes.
    """
    label = f"hf:{repository.repo}/{file.path}"
    buffer = bytearray()
    needed = min(_FIRST_BYTES, file.nbytes)
    connection = Connection()
    try:
        while True:
            _read_until(hub, repository, file, connection, buffer, needed)
            progress(len(buffer), 0, "header")
            data = bytes(buffer)
            try:
                return parse_header(data, path=label, file_size=file.nbytes, load=partial(_slice, data))
            except HeaderIncomplete as err:
                step = min(max(len(buffer), _FIRST_BYTES), _MOST_BYTES)
                needed = min(file.nbytes, max(err.needed, len(buffer) + step))
    finally:
        connection.close()


def _slice(data: bytes, offset: int, n: int) -> bytes:
    return data[offset : offset + n]


def _read_until(
    hub: Hub,
    repository: Repository,
    file: RemoteFile,
    connection: Connection,
    buffer: bytearray,
    end: int,
) -> None:
    """Append bytes to `buffer` until it holds `end`; a broken connection is tried again."""
    attempts = 0
    while len(buffer) < end:
        location = hub.locate(repository, file)
        try:
            body = connection.get_range(location.url, location.headers, len(buffer), end)
            piece = bytearray(min(1 << 18, end - len(buffer)))
            while len(buffer) < end:
                n = body.readinto(memoryview(piece)[: end - len(buffer)])
                if n == 0:
                    raise http.client.IncompleteRead(b"", end - len(buffer))
                buffer += piece[:n]
        except (OSError, http.client.HTTPException, BadAnswer) as err:
            connection.close()
            attempts += 1
            if attempts == _ATTEMPTS:
                raise NetworkError(
                    f"hf:{repository.repo}/{file.path}: the header cannot be read: {err}",
                    hint="try again, or g4 pull it and fit the file",
                ) from err
