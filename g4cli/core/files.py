"""Read files with clear errors, and write them atomically: temporary file, flush, rename."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from g4cli.core.errors import BadFile, FileMissing, NoSpace, UsageError
from g4cli.core.other_files import checkpoint_folder_hint
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_command, shell_word
from g4cli.core.units import size_text

STANDARD_INPUT: Final = "-"
_COPY_BYTES: Final = 1 << 22  # copied at once: a choice
# Temporary files are named like this by g4 alone, so those of killed writers can be removed:
# .NAME.g4-XXXXXXXX.g4-tmp, with eight random characters.
_MARK: Final = "g4-"
_SUFFIX: Final = ".g4-tmp"
FULL_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Errors that a file's name or place causes, so that another name helps.
_REFUSED: Final = (
    errno.EACCES,
    errno.ENOENT,  # a folder that cannot be made, as in /proc
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


def require_space(folder: Path, n_bytes: int) -> None:
    """Raise NoSpace unless the file system of `folder` has `n_bytes` free."""
    free = shutil.disk_usage(existing_folder(folder)).free
    if free < n_bytes:
        raise NoSpace(
            f"{folder}: {size_text(n_bytes)} needed, {size_text(free)} free",
            hint="free some space (g4 list, g4 remove MODEL) or name a file on another disk",
        )


def require_file(path: Path) -> Path:
    """Return `path` if it is a regular file, else raise FileMissing or UsageError.

    Opens nothing.
    """
    with _translate_reading(path):
        mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise UsageError(
            f"{path} is a directory; a file is needed",
            hint=checkpoint_folder_hint(path) or shell_command("ls", path),
        )
    if not stat.S_ISREG(mode):
        raise UsageError(
            f"{path} is a pipe or a device; a regular file is needed",
            hint="write it to a file first, and name that",
        )
    return path


def is_there(path: Path) -> bool:
    """Return whether anything exists at `path`, even if it may not be opened.

    `Path.exists` raises PermissionError in a folder that may not be searched.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def open_file(path: Path | str, *, buffering: int = -1) -> BinaryIO:
    """Return `path` opened for reading. Raises FileMissing or UsageError (no permission)."""
    path = Path(path)
    with _translate_reading(path):
        return path.open("rb", buffering=buffering)


def read_text(path: Path, most_bytes: int) -> str:
    """Return the content of a file; bytes that are no UTF-8 become U+FFFD.

    Raises FileMissing, or UsageError (no regular file, no permission, more than `most_bytes`).
    """
    size = require_file(path).stat().st_size
    if size > most_bytes:
        raise UsageError(f"{path} is too large ({size_text(size)})")
    with open_file(path) as file:
        return file.read(most_bytes).decode("utf-8", "replace")


def read_input(path: Path, most_bytes: int) -> bytes:
    """Return the content of a file or a pipe, such as a shell's <(...); "-" is standard input.

    Raises FileMissing, UsageError, or BadFile if there are more than `most_bytes`.
    """
    if str(path) == STANDARD_INPUT:
        data = sys.stdin.buffer.read(most_bytes + 1)
    else:
        if not is_pipe(path):
            require_file(path)
        with open_file(path) as file:
            data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise BadFile(f"{path} is larger than {size_text(most_bytes)}")
    return data


def is_folder(path: Path) -> bool:
    """Return whether `path` is a folder, as far as this user may know.

    `Path.is_dir` raises PermissionError in a folder that may not be searched.
    """
    return os.path.isdir(path)


def is_pipe(path: Path) -> bool:
    """Return whether `path` is a pipe."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


@contextmanager
def _translate_reading(path: Path) -> Iterator[None]:
    """Turn the errors of looking at or opening `path` into FileMissing or UsageError."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, ValueError) as err:
        # The nearest folder that is there: a missing one cannot be listed.
        folder = next((parent for parent in path.parents if is_folder(parent)), Path())
        raise FileMissing(path, hint=shell_command("ls", folder)) from err
    except OSError as err:
        raise UsageError(
            f"{path} cannot be read: {err.strerror}", hint=shell_command("ls", "-l", path)
        ) from err


@contextmanager
def atomic_file(
    path: Path, *, expected_bytes: int = 0, mode: int | None = None
) -> Iterator[BinaryIO]:
    """Yield a binary file that becomes `path` when the block ends without an exception.

    On any exception, Ctrl-C included, the temporary file is removed and an old `path` stays as it
    was; after a kill -9 the next writer of the same `path` removes it. A symbolic link is replaced,
    not followed. `mode`: the permissions of the file, by default those that the umask leaves;
    0o600 at no moment shows it to others, and folders made for it are 0o700. Raises UsageError if
    `path` cannot be a regular file, NoSpace if the disk is, or becomes, full; other exceptions of
    the block pass unchanged.
    """
    temporary, descriptor = _create_temporary(path, expected_bytes, mode)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            # Before it is closed, which frees the lock: another writer could remove it.
            os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as err:
        # The block may also read other files: only a full disk is surely about this one.
        if err.errno in FULL_DISK:
            raise _translate_error(err, path) from err
        raise
    finally:
        temporary.unlink(missing_ok=True)


def require_file_target(path: Path) -> bool:
    """Return whether there is a file at `path`, where one is to be written.

    Raises UsageError if it can surely not be written: a folder, a device, a bad name.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    except ValueError as err:  # a null byte, or what the encoding of names lacks
        raise UsageError(f"{path} cannot be written: {err}", hint="name another file") from err
    except OSError as err:
        raise _translate_error(err, path) from err
    if stat.S_ISDIR(mode):
        raise UsageError(
            f"{path} is a directory; a file name is needed",
            hint=f"add a file name: {shell_word(path / 'NAME')}",
        )
    # Renaming over /dev/null would replace it for everyone.
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is a pipe or a device; a file is needed", hint="name a new file")
    return True


def _create_temporary(path: Path, expected_bytes: int, mode: int | None) -> tuple[Path, int]:
    """Return the path and the descriptor of a new, locked file that will become `path`."""
    require_file_target(path)
    try:
        make_folder(path.parent, private=mode is not None and not mode & 0o077)
        if expected_bytes:
            require_space(path.parent, expected_bytes)
        # File names have at most 255 bytes; what is added here takes 20.
        stem = os.fsencode(path.name)[:200].decode("utf-8", "ignore")
        _remove_stale(path.parent, stem)
        while True:
            temporary = _name_temporary(path.parent, stem)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
            # Until it is locked, another writer of `path` may take it for a killed one's.
            lock_descriptor(descriptor)
            if os.path.lexists(temporary):
                return temporary, descriptor
            os.close(descriptor)
    except OSError as err:
        raise _translate_error(err, path) from err


def _name_temporary(folder: Path, stem: str) -> Path:
    return folder / f".{stem}.{_MARK}{os.urandom(4).hex()}{_SUFFIX}"


def link_or_copy(
    source: Path, target: Path, *, replace: bool = False, progress: Progress = no_progress
) -> None:
    """Make `target` the same file as `source`: a hard link, or a copy where none can be made.

    With `replace` it takes the place of an existing `target`. Raises FileExistsError without, and
    what opening `source` and writing `target` raise.
    """
    with open_file(source) as reader:
        try:
            _link(source.resolve(), target, replace=replace)
            return
        except FileExistsError:
            raise
        except OSError:
            pass  # another file system, or one without hard links; the copy tells of other causes
        n_bytes, done = os.fstat(reader.fileno()).st_size, 0
        with atomic_file(target, expected_bytes=n_bytes) as writer:
            while piece := reader.read(_COPY_BYTES):
                writer.write(piece)
                done += len(piece)
                progress(done, n_bytes, source.name)
    with suppress(OSError):  # mode and times are the source's, as with a link, if they can be set
        shutil.copystat(source, target)


def _link(source: Path, target: Path, *, replace: bool) -> None:
    with suppress(FileExistsError):  # a file in the place of the folder: NotADirectoryError follows
        target.parent.mkdir(parents=True, exist_ok=True)
    if not replace:
        os.link(source, target)
        return
    temporary = _name_temporary(target.parent, target.name)
    try:
        os.link(source, temporary)
        os.replace(temporary, target)
    finally:
        # It is still there, too, if source and target are one file: nothing is renamed then.
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path, *, private: bool = False) -> None:
    """Make `folder` and those above it; `private`: what is made may be entered by this user alone.

    Raises OSError.
    """
    if private and not folder.is_dir():
        if folder.parent != folder:
            make_folder(folder.parent, private=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    else:
        folder.mkdir(parents=True, exist_ok=True)


def lock_descriptor(descriptor: int, *, wait: bool = True) -> bool:
    """Return whether this process has the lock of an open file now; `wait` for its holder.

    The kernel frees it with the process. False also where the file system has no locks.
    """
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _remove_stale(folder: Path, stem: str) -> None:
    """Remove temporary files of the same target whose writers were killed, so hold no lock."""
    for stale in folder.glob(f".{glob.escape(stem)}.{_MARK}????????{_SUFFIX}"):
        with suppress(OSError):
            descriptor = os.open(stale, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode) and lock_descriptor(
                    descriptor, wait=False
                ):
                    stale.unlink()
            finally:
                os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    # Otherwise a power cut may undo the rename. Some file systems cannot flush a folder.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _translate_error(err: OSError, path: Path) -> Exception:
    if err.errno in FULL_DISK:
        why = (
            "the file system does not support files of this size"
            if err.errno == errno.EFBIG
            else "the disk is full"
        )
        return NoSpace(f"{path}: {why}; nothing was written", hint="g4 list, then g4 remove MODEL")
    if err.errno in _REFUSED:
        return UsageError(
            f"{path} cannot be written: {err.strerror}", hint="name a file in another place"
        )
    return err


def as_path_error(err: OSError) -> UsageError | None:
    """Return the error for a path that the system refuses, or None for any other `err`."""
    if err.filename is None or err.errno not in _REFUSED or err.errno == errno.ENOENT:
        return None
    return UsageError(f"{err.filename} cannot be used: {err.strerror}", hint="name another file")


def existing_folder(folder: Path) -> Path:
    """Return `folder`, or the nearest folder above it that exists."""
    # Path.exists raises PermissionError in a folder that may not be searched.
    while not os.path.exists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder
