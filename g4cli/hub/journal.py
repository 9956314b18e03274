"""A partial file and its journal, the record of which byte ranges have arrived.

    .NAME.SHA12.part     the bytes at their final offsets; the file has holes
    .NAME.SHA12.journal  a line of JSON (what the file must be), then a line per range: "START END"

Theory. Two events may end a download: the process is killed, or the machine stops. They destroy
different things, so the journal answers two questions.

*What did a killed process write?* The kernel keeps every page that was written, so each line of the
journal is true if it is appended after its bytes were written. A line that was cut off in the
middle, and all that follows it, is ignored. What was not yet recorded is lost: at
most 1 MiB (see Limits in transfer.py).

*What is on the disk after a power cut?* Pages that were written but not flushed are gone, and the
journal may have reached the disk before them. So every 512 MiB the data are flushed with fsync, and
then the list of ranges that the flush covers is appended between the lines "restart" and "sync".
The first line of the journal holds the boot id of the machine. If it differs from the present one,
the machine was restarted, and only ranges between "restart" and "sync" are trusted.

The name of both files holds the first digits of the expected hash: a new version of the file on the
hub starts a new partial file, and never continues the old one. Neither is opened through a link.

A fast transfer bypasses the page cache (O_DIRECT): allocating, filling and flushing fresh pages
costs more than the network and the hash together, and the file must be on the disk before it gets
its name anyway.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Final

from g4cli.core.errors import G4Error, NoSpace, UsageError
from g4cli.core.files import FULL_DISK, require_space
from g4cli.core.spans import Span, find_gaps, merge_spans, remove_span

SYNC_BYTES: Final = 512 * 1024**2  # a choice: some seconds of a fast line
_DIRECT_BYTES: Final = 4096  # O_DIRECT requires offsets, sizes and buffers in multiples of this
_FULL_DISK: Final = "the disk is full; what has arrived is kept"
_MAX_JOURNAL_BYTES: Final = 64 * 1024**2  # 20 GB in pieces of 128 KiB take 4 MB


@dataclass(frozen=True, slots=True)
class Goal:
    """What the finished file must be: its size, and `sha256` or, for files in git, `git_oid`."""

    nbytes: int
    sha256: str
    git_oid: str = ""

    @property
    def key(self) -> str:
        """The part of the partial file's name that ties it to this content."""
        return (self.sha256 or self.git_oid or str(self.nbytes))[:12]


class Partial:
    """The partial file of `target`. Thread-safe; used by one process at a time (see lock.py)."""

    def __init__(
        self,
        target: Path,
        goal: Goal,
        *,
        boot_id: str | None = None,
        sync_bytes: int = SYNC_BYTES,
    ) -> None:
        """Open or create the partial file of `target` in the same folder.

        `boot_id` identifies the running system, by default as the system tells it; after
        `sync_bytes` of new data `note_span` asks for a flush. Raises NoSpace or UsageError.
        """
        self.goal = goal
        self._boot_id = read_boot_id() if boot_id is None else boot_id
        self._sync_bytes = sync_bytes
        self.path = target.with_name(f".{target.name}.{goal.key}.part")
        self.journal = self.path.with_suffix(".journal")
        self._lock = Lock()
        self._spans: list[Span] = []  # what has arrived: sorted, without overlaps, never changed
        self._synced: list[Span] = []  # what of it was flushed to the disk
        self._since_sync = 0  # bytes that have arrived since the last flush
        self._direct = -1  # the same file opened with O_DIRECT; -1: it is not
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._spans, self._synced = self._load_spans()
            require_space(target.parent, goal.nbytes - self.arrived_bytes)
            self._data = _open_own(self.path)
            os.ftruncate(self._data, goal.nbytes)
            self._log = self._rewrite_journal()
        except OSError as err:
            raise UsageError(
                f"{target.parent} cannot be written: {err.strerror}",
                hint="set G4_HOME to a folder of your own",
            ) from err

    @property
    def arrived_bytes(self) -> int:
        """The number of bytes that have arrived."""
        with self._lock:
            return sum(end - start for start, end in self._spans)

    @property
    def frontier(self) -> int:
        """The offset up to which everything from the start has arrived."""
        with self._lock:
            return self._spans[0][1] if self._spans and self._spans[0][0] == 0 else 0

    def find_missing(self) -> list[Span]:
        """Return the ranges that have not arrived, in order."""
        with self._lock:
            return find_gaps(self._spans, self.goal.nbytes)

    def write(self, start: int, data: memoryview) -> None:
        """Write `data` at offset `start` and record it.

        Raises NoSpace; what was recorded before stays.
        """
        self.write_unrecorded(start, data)
        if self.note_span(start, start + len(data)):
            self.sync()

    def write_unrecorded(self, start: int, data: memoryview) -> None:
        """Write `data` at offset `start` without recording it. Raises NoSpace."""
        try:
            at, end = start, start + len(data)
            while at < end:
                unwritten = data[at - start :]
                at += self._write_direct(at, unwritten) or os.pwrite(self._data, unwritten, at)
        except OSError as err:
            raise self._write_error(err) from err

    def note_span(self, start: int, end: int) -> bool:
        """Record that the bytes from `start` to `end` are written; return whether to `sync` now."""
        with self._lock:
            # Short: each worker extends a range of its own, and neighbors are merged.
            self._spans = merge_spans([*self._spans, (start, end)])
            try:
                os.write(self._log, f"{start} {end}\n".encode())
            except OSError as err:
                raise self._write_error(err) from err
            self._since_sync += end - start
            is_due = self._since_sync >= self._sync_bytes
            if is_due:
                self._since_sync = 0
            return is_due

    def prefer_direct(self) -> None:
        """Bypass the page cache from now on, if the system and the file system support it."""
        if self._direct < 0 and hasattr(os, "O_DIRECT"):
            with suppress(OSError):
                self._direct = os.open(self.path, os.O_WRONLY | os.O_DIRECT | os.O_NOFOLLOW)
                # Reading ahead would fill the cache with pages that are then written directly.
                os.posix_fadvise(self._data, 0, 0, os.POSIX_FADV_RANDOM)
                # Flush what is in the cache soon, while the transfer continues.
                self._since_sync = self._sync_bytes

    def readinto(self, view: memoryview, start: int) -> int:
        """Read bytes that have arrived into `view`; return how many."""
        if hasattr(os, "preadv"):
            return os.preadv(self._data, [view], start)
        data = os.pread(self._data, len(view), start)  # older macOS
        view[: len(data)] = data
        return len(data)

    def sync(self) -> None:
        """Flush all that has arrived to the disk, and record that. Raises NoSpace."""
        with self._lock:
            arrived = self._spans
        try:
            os.fsync(self._data)
            with self._lock:
                self._synced = arrived
                # Newer lines may precede this point, so the flushed ranges are repeated in full.
                os.write(self._log, _sync_lines(arrived).encode())
        except OSError as err:
            raise self._write_error(err) from err

    def forget_span(self, start: int, end: int) -> None:
        """Remove the bytes from `start` to `end` from the record, because they are wrong."""
        with self._lock:
            self._spans = remove_span(self._spans, start, end)
            self._synced = remove_span(self._synced, start, end)
            try:
                fresh = self._rewrite_journal()
            except OSError as err:
                raise self._write_error(err) from err
            os.close(self._log)
            self._log = fresh

    def finish(self, target: Path) -> None:
        """Flush the file, rename it to `target` and close it. The caller has verified it.

        Raises NoSpace or UsageError.
        """
        try:
            os.fsync(self._data)
            os.replace(self.path, target)
        except OSError as err:
            raise self._write_error(err) from err
        finally:
            self.close()
        self.journal.unlink(missing_ok=True)

    def close(self) -> None:
        """Close both files; everything stays for the next process."""
        for descriptor in (self._data, self._log, self._direct):
            if descriptor >= 0:
                os.close(descriptor)

    def _write_direct(self, at: int, data: memoryview) -> int:
        """Write past the page cache; return the number of bytes written, 0 if not possible."""
        if self._direct < 0 or at % _DIRECT_BYTES or len(data) % _DIRECT_BYTES:
            return 0
        try:
            return os.pwrite(self._direct, data, at)
        except OSError as err:
            if err.errno != errno.EINVAL:
                raise
            os.close(self._direct)  # not supported by this file system, or with larger multiples
            self._direct = -1
            return 0

    def _write_error(self, err: OSError) -> G4Error:
        if err.errno in FULL_DISK:
            hint = "g4 list, then g4 remove MODEL"
            return NoSpace(f"{self.path}: {_FULL_DISK} ({err.strerror})", hint=hint)
        return UsageError(
            f"{self.path} cannot be written: {err.strerror}; what has arrived is kept",
            hint="check the disk, or set G4_HOME to a folder on another one",
        )

    def _load_spans(self) -> tuple[list[Span], list[Span]]:
        """Return the ranges of the journal that can be trusted, and those that were flushed."""
        try:
            status = os.lstat(self.path)
            if not stat.S_ISREG(status.st_mode) or status.st_size != self.goal.nbytes:
                return [], []
            lines = _read_journal(self.journal).split(b"\n")
            head = json.loads(lines[0])
            if (head["bytes"], head["sha256"]) != (self.goal.nbytes, self.goal.sha256):
                return [], []
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            return [], []
        spans, synced = _parse_spans(lines[1:-1], self.goal.nbytes)
        return (spans if head.get("boot") == self._boot_id else list(synced)), synced

    def _rewrite_journal(self) -> int:
        """Replace the journal by a short one and return it opened for appending."""
        head = {"bytes": self.goal.nbytes, "sha256": self.goal.sha256, "boot": self._boot_id}
        text = json.dumps(head) + "\n" + _sync_lines(self._synced)
        text += "".join(f"{a} {b}\n" for a, b in self._spans)
        fresh = self.journal.with_suffix(".journal-new")
        # Always a new file: a link with this name is removed, never followed.
        fresh.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW
        descriptor = os.open(fresh, flags, 0o666)
        os.write(descriptor, text.encode())
        os.replace(fresh, self.journal)
        return descriptor


def _open_own(path: Path) -> int:
    """Open or create `path` as a regular file with one name; links are removed, not followed."""
    with suppress(FileNotFoundError):
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            path.unlink()
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)


def _read_journal(path: Path) -> bytes:
    """Return the journal's bytes. Raises OSError, or ValueError if it is not a regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        return file.read(_MAX_JOURNAL_BYTES)


def _sync_lines(spans: list[Span]) -> str:
    """Return the lines of the journal that say that `spans` were flushed."""
    return "restart\n" + "".join(f"{a} {b}\n" for a, b in spans) + "sync\n" if spans else ""


def _parse_spans(lines: list[bytes], nbytes: int) -> tuple[list[Span], list[Span]]:
    """Return the ranges that have arrived, and those of them that were flushed to the disk.

    "restart" begins a list of flushed ranges that "sync" completes.
    """
    spans: list[Span] = []
    synced: list[Span] = []
    opened: list[Span] | None = None
    for line in lines:
        words = line.split()
        if words == [b"restart"]:
            opened = []
        elif words == [b"sync"] and opened is not None:
            synced, opened = opened, None
        elif len(words) == 2 and all(w.isdigit() and len(w) < 19 for w in words):  # below 2^63
            start, end = int(words[0]), int(words[1])
            if not 0 <= start < end <= nbytes:
                break
            spans.append((start, end))
            if opened is not None:
                opened.append((start, end))
        else:
            break  # what follows a damaged line cannot be trusted
    return merge_spans(spans), merge_spans(synced)


def read_boot_id() -> str:
    """Return an id that changes when the machine restarts; "" if the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
