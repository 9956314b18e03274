"""What a model file is known by, so that its states are used with no other."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from g4cli.core.errors import BadFile
from g4cli.core.files import open_file
from g4cli.store.manifest import make_stamp, read_manifest

_START_BYTES: Final = 1 << 20  # a choice: most of the keys of a header


def identify_model(path: Path) -> str:
    """Return the file's sha256 where its manifest has one that still holds.

    Else its size, its time of modification and a digest of its first MiB. Raises FileMissing or
    UsageError (no permission).
    """
    try:
        entry = read_manifest(path, path.name)  # the name of the entry does not matter here
        if entry.sha256 and entry.stamp == make_stamp(path):
            return entry.sha256
    except (BadFile, OSError):
        pass
    with open_file(path, buffering=0) as file:
        start = hashlib.sha256(file.read(_START_BYTES)).hexdigest()
    status = path.stat()
    return f"{status.st_size}.{status.st_mtime_ns}.{start}"
