"""Open files of a checkpoint folder: only regular files inside it, read up to a limit.

A downloaded folder (git clone and tar keep links) may hold a link to /dev/zero, a FIFO that nobody
writes to, or a link to a private key, which would end up in the GGUF.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from g4cli.core.errors import BadCheckpoint

# Opening a FIFO without a writer must not block. Windows has a text mode instead.
_READ_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_inside(path: Path) -> BinaryIO:
    """Return the regular file at `path` opened for reading.

    A link may lead to another file in the same folder, and in the Hugging Face cache
    (models--OWNER--REPO/snapshots/COMMIT) to the blobs of the same repository. Raises
    FileNotFoundError, or BadCheckpoint for other links and other kinds of files.
    """
    try:
        target = path.resolve(strict=True)
        if not any(target.is_relative_to(root) for root in _allowed_folders(path.parent)):
            raise BadCheckpoint(
                f"{path} is a link to a file outside of its folder, which g4 does not follow"
            )
        descriptor = os.open(target, _READ_FLAGS)
    except FileNotFoundError:
        raise
    except (OSError, RuntimeError, ValueError) as err:  # a loop of links, a name that is too long
        reason = getattr(err, "strerror", None) or str(err)
        raise BadCheckpoint(f"{_shorten_path(path)} cannot be read: {reason[:200]}") from err
    file = os.fdopen(descriptor, "rb")
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        file.close()
        raise BadCheckpoint(f"{path} is not a regular file")
    return file


def read_inside(path: Path, limit: int) -> bytes:
    """Return the bytes of the file at `path`, see `open_inside`.

    Raises BadCheckpoint above `limit` bytes.
    """
    with open_inside(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise BadCheckpoint(f"{path} has more than {limit:,} bytes")
    return data


def _allowed_folders(folder: Path) -> list[Path]:
    """Return the folders in which the files of the checkpoint in `folder` may be."""
    folder = folder.resolve()
    in_cache = folder.parent.name == "snapshots" and "--" in folder.parent.parent.name
    return [folder, folder.parent.parent / "blobs"] if in_cache else [folder]


def _shorten_path(path: Path) -> str:
    """Return the path for an error; a name that the system refused may be megabytes long."""
    text = str(path)
    return text if len(text) <= 300 else f"{text[:200]} ..."
