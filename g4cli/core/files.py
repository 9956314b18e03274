"""Files that are either whole or not there: written beside the target, flushed, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from g4cli.core.errors import FileMissing, NoSpace, UsageError
from g4cli.core.units import size_text


def require_space(folder: Path, n_bytes: int) -> None:
    """Raise NoSpace unless the file system of `folder` has `n_bytes` free."""
    free = shutil.disk_usage(_existing(folder)).free
    if free < n_bytes:
        raise NoSpace(
            f"{folder}: {size_text(n_bytes)} needed, {size_text(free)} free",
            hint="free some space (g4 list, g4 remove MODEL) or write elsewhere with -o FILE",
        )


def require_file(path: Path) -> Path:
    """Return `path` if it is a readable regular file, else raise FileMissing or UsageError."""
    if path.is_dir():
        raise UsageError(f"{path} is a directory; a file is needed", hint=f"ls {path}")
    if not path.is_file():
        raise FileMissing(path, hint="g4 list")
    return path


@contextmanager
def atomic_file(path: Path, *, expected_bytes: int = 0) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends without an exception.

    On any exception, Ctrl-C included, the temporary file is removed and an old `path` stays as it was.
    Raises UsageError if `path` is a directory, NoSpace if the disk is, or becomes, full.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a directory; a file name is needed", hint=f"-o {path / 'model.gguf'}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if expected_bytes:
            require_space(path.parent, expected_bytes)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    except OSError as err:
        raise _translated(err, path) from err
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as err:
        raise _translated(err, path) from err
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _translated(err: OSError, path: Path) -> Exception:
    if err.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{path}: the disk is full; nothing was written", hint="g4 list, then g4 remove MODEL")
    if err.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return UsageError(
            f"{path} cannot be written: {err.strerror}", hint="choose another place with -o FILE"
        )
    return err


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _umask() -> int:
    # The umask can only be read by setting it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
