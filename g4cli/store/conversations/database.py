"""Open the database of conversations: private, checked, and safe for two processes at once.

The file is trusted as little as any other: its schema can run no code, lengths are bounded, and
text that is not UTF-8 is replaced. A damaged file is moved aside, never overwritten: SQLite's own
`.recover` may still read it.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from g4cli.core.errors import BadFile, G4Error, NoSpace, NotFound, RuntimeFailed, UsageError
from g4cli.core.files import lock_descriptor, make_folder
from g4cli.core.paths import state_dir
from g4cli.core.quoting import shell_command

# Longer than any answer: a context of 262,144 tokens holds about a million characters.
MAX_TEXT_BYTES: Final = 64 << 20
_BUSY_S: Final = 10.0  # how long to wait for another process: a choice
_SWITCH_TRIES: Final = 50  # to turn on the write-ahead log, in _BUSY_S
_SQLITE_LIMIT_LENGTH: Final = 0  # https://www.sqlite.org/c3ref/c_limit_attached.html
_SIDE_FILES: Final = ("-wal", "-shm")


def conversations_path() -> Path:
    """Return the path of the database; it may not exist yet."""
    return state_dir() / "conversations.db"


def media_dir() -> Path:
    """Return the folder of images and sounds that came without a file; it may not exist yet."""
    return state_dir() / "media"


def open_database(path: Path) -> sqlite3.Connection:
    """Return the open database, which is new and empty if there was none.

    Raises UsageError if it cannot be written or belongs to somebody else, and BadFile if it is
    damaged: then it was moved aside, and the next call begins a new one.
    """
    with _opening_alone(path):
        inode = _make_file(path)
        connection = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )  # transactions are begun, and threads kept apart, by ConversationStore
        try:
            with translate_errors(path):
                _configure(connection)
                (problem,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                if problem != "ok":
                    raise sqlite3.DatabaseError(problem)
            return connection
        except BadFile as err:
            connection.close()
            raise _move_aside(path, inode, err) from err
        except BaseException:
            connection.close()
            raise


def _configure(connection: sqlite3.Connection) -> None:
    connection.text_factory = lambda data: data.decode("utf-8", "replace")
    if hasattr(connection, "setlimit"):  # Python 3.11
        connection.setlimit(_SQLITE_LIMIT_LENGTH, MAX_TEXT_BYTES)
    # A view or a trigger of a file that somebody else made cannot call functions with effects.
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA foreign_keys = ON")
    # What is deleted is overwritten: conversations are private.
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA temp_store = MEMORY")  # of titles that are searched
    for attempt in range(_SWITCH_TRIES):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            break
        except sqlite3.OperationalError as err:
            # This statement does not wait for other processes as all others do.
            if "locked" not in str(err) or attempt == _SWITCH_TRIES - 1:
                raise
            time.sleep(_BUSY_S / _SWITCH_TRIES)
    # After a power cut no turn that was saved is missing (https://www.sqlite.org/pragma.html).
    connection.execute("PRAGMA synchronous = FULL")


@contextmanager
def _opening_alone(path: Path) -> Iterator[None]:
    """Let one process at a time make, check or move the database."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        make_folder(path.parent, private=True)
        descriptor = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as err:
        raise _unwritable(path, err.strerror or str(err)) from err
    try:
        lock_descriptor(descriptor)  # where the file system has no locks, SQLite's own must do
        yield
    finally:
        os.close(descriptor)


def _make_file(path: Path) -> int:
    """Create the database if there is none, for this user alone, and return its inode.

    SQLite gives its own files beside it the same mode.
    """
    try:
        flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
    except OSError as err:
        what = "it is a symbolic link" if err.errno == errno.ELOOP else err.strerror or str(err)
        raise _unwritable(path, what) from err
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _unwritable(path, "it is not a regular file")
        if status.st_uid != os.geteuid():
            raise _unwritable(path, "it belongs to another user")
        with suppress(OSError):
            os.fchmod(descriptor, 0o600)
        return status.st_ino
    finally:
        os.close(descriptor)


def _unwritable(path: Path, what: str) -> UsageError:
    return UsageError(f"{path} cannot be used: {what}", hint="export G4_HOME=FOLDER")


def _move_aside(path: Path, inode: int, err: BadFile) -> BadFile:
    """Move a damaged database away and return the error that says so.

    It stays if the file at `path` has another `inode` by now: another process has replaced it.
    """
    aside = path.with_name(f"{path.stem}-damaged-{time.strftime('%Y%m%d-%H%M%S')}{path.suffix}")
    try:
        if path.stat().st_ino != inode:
            return err
        path.rename(aside)
        for suffix in _SIDE_FILES:
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    except OSError:
        return err
    return BadFile(
        f"the saved conversations are damaged ({err.message}); they were moved to {aside}, and new "
        "ones are saved in an empty database",
        hint=f"{shell_command('sqlite3', aside)} .recover",
    )


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors of the block as G4Errors.

    BadFile for a damaged file, NoSpace, UsageError if the file cannot be written, RuntimeFailed if
    another process keeps it locked or SQLite fails otherwise, NotFound for an id of more than 64
    bits.
    """
    try:
        yield
    except G4Error:
        raise
    except OverflowError as err:
        raise NotFound("no conversation and no turn has such an id", hint="g4 chats") from err
    except sqlite3.OperationalError as err:
        text = str(err)
        if "full" in text:
            raise NoSpace(
                f"{path}: the disk is full", hint="g4 list, then g4 remove MODEL"
            ) from err
        if "readonly" in text or "unable to open" in text or "disk I/O" in text:
            raise _unwritable(path, text) from err
        if "locked" in text or "busy" in text:
            raise RuntimeFailed(
                f"{path} is in use by another process", hint="run the command again"
            ) from err
        if "no such module" in text:
            raise RuntimeFailed(
                "SQLite of this Python has no full-text search (FTS5)",
                hint=shell_command("python3", "-m", "venv", "--help"),
            ) from err
        if "no such" in text or "malformed" in text:  # a table or a column that g4 did not make
            raise BadFile(text) from err
        raise RuntimeFailed(f"{path}: {text}") from err
    except sqlite3.DatabaseError as err:
        raise BadFile(str(err)) from err
