"""Hashes of whole files, as the hub and git record them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from g4cli.core.files import open_file
from g4cli.core.progress import Progress, no_progress

_PIECE_BYTES: Final = 1 << 20  # stays in the processor's cache between reading and hashing


def sha256_of(path: Path, *, progress: Progress = no_progress) -> str:
    """Return the sha256 of the file at `path` in hexadecimal.

    Raises FileMissing, UsageError (no permission) or OSError (a disk that fails).
    """
    return _feed_file(hashlib.sha256(), path, progress)


def git_oid_of(path: Path) -> str:
    """Return the id that git gives a file with the content of `path`: 40 hexadecimal digits.

    Raises as `sha256_of`. Source: git-hash-object(1); a blob is hashed with its type and size
    before it.
    """
    header = f"blob {path.stat().st_size}\0".encode()
    return _feed_file(hashlib.sha1(header, usedforsecurity=False), path, no_progress)


def _feed_file(digest: hashlib._Hash, path: Path, progress: Progress) -> str:
    done = 0
    with open_file(path, buffering=0) as file:
        total = path.stat().st_size
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            done += len(piece)
            progress(done, total, f"sha256 of {path.name}")
    return digest.hexdigest()
