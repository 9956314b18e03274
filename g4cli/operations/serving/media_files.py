"""Images and sounds that came with requests, as files that the model's process reads.

A file is named by the hash of its content, so that the image of an earlier turn is found encoded
already. Files live in a folder that only the user can read, until the server ends or newer ones
need the room; those of requests that run stay.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal

from g4cli.core.errors import BadMedia
from g4cli.core.media_file import FORMATS, media_kind_of
from g4cli.prompt.messages import Media

MAX_BYTES: Final = 512 << 20


class MediaFiles:
    """The files of the images and sounds of requests."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._max_bytes = max_bytes
        self._sizes: OrderedDict[Path, int] = OrderedDict()  # least recently used first
        self._uses: dict[Path, int] = {}

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return the files, least recently used first."""
        return tuple(self._sizes)

    def store(self, kind: Literal["image", "audio"], data: bytes) -> Media:
        """Return `data` as a file. Raises BadMedia if its first bytes are of another kind.

        The worker checks the whole file before it decodes it.
        """
        if media_kind_of(data) != kind:
            name = "an image" if kind == "image" else "a sound"
            raise BadMedia(f"the data is not {name} that g4 reads ({FORMATS[kind]})")
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="g4-serve-")
        path = Path(self._folder.name) / hashlib.sha256(data).hexdigest()
        if path in self._sizes:
            self._sizes.move_to_end(path)
        else:
            path.write_bytes(data)
            os.utime(path, (0, 0))  # encoders know files by path, size and date
            self._sizes[path] = len(data)
        return Media(kind, path)

    def use(self, media: Iterable[Media]) -> None:
        """Keep the files of `media` until as many calls of `release`; others may go now."""
        for medium in media:
            self._uses[medium.path] = self._uses.get(medium.path, 0) + 1
        self._delete_oldest()

    def release(self, media: Iterable[Media]) -> None:
        """End a use of `media`."""
        for medium in media:
            self._uses[medium.path] -= 1
            if not self._uses[medium.path]:
                del self._uses[medium.path]

    def close(self) -> None:
        """Delete all files."""
        if self._folder is not None:
            self._folder.cleanup()

    def _delete_oldest(self) -> None:
        total = sum(self._sizes.values())
        for path, size in list(self._sizes.items()):
            if total <= self._max_bytes:
                return
            if path not in self._uses:
                path.unlink(missing_ok=True)
                del self._sizes[path]
                total -= size
