"""Images and sounds that came with requests, as files that the model's process reads.

A file exists while a request needs it, be it answered or refused, and not a moment longer. It is
named by the hash of its content, and its date is always the same: an image that comes again with
the next turn of a conversation is the same file for the encoder, which knows it already.

Requests are read in several threads at once. Whoever stores a content that another request is about
to give up must not find it half written or half deleted, so one lock guards files and counts.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Literal

from g4cli.core.errors import BadMedia
from g4cli.core.media_file import FORMATS, media_kind_of
from g4cli.prompt.messages import Media


class MediaFiles:
    """The files of the images and sounds of requests."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._uses: dict[Path, int] = {}
        self._lock = threading.Lock()
        # Threads and tasks that a request starts see the list of their own request.
        self._request: ContextVar[list[Media] | None] = ContextVar("request", default=None)

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the files that are in use."""
        return tuple(self._uses)

    @contextmanager
    def hold_request(self) -> Iterator[None]:
        """Keep what is stored within the block, in whatever thread, until its end."""
        stored: list[Media] = []
        token = self._request.set(stored)
        try:
            yield
        finally:
            self._request.reset(token)
            self.release(stored)

    def store(self, kind: Literal["image", "audio"], data: bytes) -> Media:
        """Return `data` as a file, which stays until the end of the request (`hold_request`).

        Outside of a request it stays until `close`. Raises BadMedia if its first bytes are of
        another kind. The worker checks the whole file before it decodes it.
        """
        if media_kind_of(data) != kind:
            name = "an image" if kind == "image" else "a sound"
            raise BadMedia(f"the data is not {name} that g4 reads ({FORMATS[kind]})")
        stored = self._request.get()
        name = hashlib.sha256(data).hexdigest()
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="g4-serve-")
            media = Media(kind, Path(self._folder.name) / name)
            if media.path not in self._uses:
                # systemd-tmpfiles deletes folders that nobody used for ten days.
                media.path.parent.mkdir(mode=0o700, exist_ok=True)
                _write_file(media.path, data)
            self._uses[media.path] = self._uses.get(media.path, 0) + 1
            if stored is not None:
                stored.append(media)
        return media

    def use(self, media: Iterable[Media]) -> None:
        """Keep the files of `media` until as many calls of `release`.

        Files of others, such as those of a saved conversation, are theirs to keep and to delete.
        """
        with self._lock:
            for medium in filter(self._is_own, media):
                self._uses[medium.path] = self._uses.get(medium.path, 0) + 1

    def release(self, media: Iterable[Media]) -> None:
        """End a use of `media`; what nobody uses any more is deleted."""
        with self._lock:
            for medium in filter(self._is_own, media):
                self._uses[medium.path] -= 1
                if not self._uses[medium.path]:
                    del self._uses[medium.path]
                    medium.path.unlink(missing_ok=True)

    def _is_own(self, medium: Media) -> bool:
        return self._folder is not None and medium.path.parent == Path(self._folder.name)

    def close(self) -> None:
        """Delete all files."""
        if self._folder is not None:
            self._folder.cleanup()


def _write_file(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
        os.utime(path, (0, 0))  # encoders know files by path, size and date
    except BaseException:
        path.unlink(missing_ok=True)
        raise
