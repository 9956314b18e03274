"""All saved states of a machine: a folder for each namespace, a file for each state and block.

A namespace (keys.make_namespace) holds the states of one model, KV type, build of llama.cpp, and so
on: a context uses those of its own alone.

Several processes use the folder at once. Nothing that is read is ever changed: files appear whole,
by a rename, and vanish whole. Whoever writes, or removes what is not broken, holds a lock, which
the kernel frees with the process. So whatever no state names while the lock is held was left by a
process that was killed, and is removed (`clean`).

A state that is damaged, foreign, or misses a block is removed when somebody comes across it, and
then it is as if it had never been there.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from errno import ENOLCK, EPERM
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import G4Error, UsageError
from g4cli.core.files import lock_descriptor, make_folder
from g4cli.core.quoting import shell_command
from g4cli.core.records import read_record, write_record
from g4cli.store.states.files import (
    BLOCK_SUFFIX,
    STATE_SUFFIX,
    DamagedStateError,
    StateHeader,
    digest_bytes,
    read_header,
    read_state,
    write_block,
    write_state,
)
from g4cli.store.states.keys import iter_prefix_digests
from g4cli.store.states.rows import Data, Tables, cut_block, cut_rest

LOG: Final = logging.getLogger("g4.states")
_RECORD: Final = "about.json"
_LOCK: Final = ".lock"
_NAMESPACE: Final = re.compile(r"[0-9a-f]{32}")
_STATE_FILE: Final = re.compile(rf"(\d{{8}})-([0-9a-f]{{32}}){re.escape(STATE_SUFFIX)}")
_TEMPORARY: Final = re.compile(r"\..*\.g4-tmp")  # a file that core.files.atomic_file writes


@dataclass(frozen=True, slots=True)
class StateName:
    """Names a state within its namespace: how many tokens it holds, and their digest."""

    n_tokens: int
    digest: str

    @property
    def file(self) -> str:
        """Return the name of its file."""
        return f"{self.n_tokens:08d}-{self.digest}{STATE_SUFFIX}"


@dataclass(frozen=True, slots=True)
class About:
    """What a namespace is for, as `g4 list --states` shows it: the model's name and its file.

    `holds` is "prompts", with the type of their KV cache, or "media": embeddings of images and
    sounds.
    """

    model: str
    file: str
    kv_type: str
    holds: str = "prompts"


@dataclass(frozen=True, slots=True)
class Namespace:
    """The states of one model with one set of options. `used_at`: the newest use, Unix seconds."""

    name: str
    about: About
    n_states: int
    n_bytes: int
    used_at: float

    def as_json(self) -> dict[str, Any]:
        """Return the row as `g4 list --states --json` shows it."""
        return {
            "model": self.about.model,
            "file": self.about.file,
            "holds": self.about.holds,
            "kv_type": self.about.kv_type or None,
            "states": self.n_states,
            "bytes": self.n_bytes,
            "used_at": int(self.used_at),
        }


class StateFolder:
    """The states in a folder, which take at most `limit_bytes` together."""

    def __init__(self, root: Path, limit_bytes: int) -> None:
        """Nothing is read or made yet."""
        self.root, self.limit_bytes = root, limit_bytes

    def find_states(self, namespace: str, packed: bytes) -> list[StateName]:
        """Return the states that are prefixes of `packed` (see pack_tokens), the longest first."""
        digests: dict[int, set[str]] = {}  # of the states of each length
        for name in self._list_names(namespace):
            digests.setdefault(name.n_tokens, set()).add(name.digest)
        matching = [
            StateName(n_tokens, digest)
            for n_tokens, digest in iter_prefix_digests(packed, digests)
            if digest in digests[n_tokens]
        ]
        return matching[::-1]

    def read_state(
        self, namespace: str, name: StateName, allocate: Callable[[int], memoryview]
    ) -> tuple[StateHeader, memoryview] | None:
        """Return a state and its header, or None (then the state is gone).

        `allocate` returns the memory for a number of bytes; what it raises passes.
        """
        path = self.root / namespace / name.file
        try:
            header, state = read_state(path, allocate)
            if header.n_tokens != name.n_tokens:
                raise DamagedStateError("it holds another number of tokens")
        except (DamagedStateError, OSError) as err:
            LOG.debug("%s is removed: %s", path, err)
            self._remove_broken(path)
            return None
        with suppress(OSError):
            os.utime(path)
        return header, state

    def write_state(
        self,
        namespace: str,
        about: About,
        name: StateName,
        state: Data,
        tables: Tables,
        known: Sequence[str | None] = (),
    ) -> tuple[str, ...] | None:
        """Write a state and return the digests of its blocks; None if it was not written.

        `known`: the digests of its first blocks where they are known; else they are computed. What
        was used least recently is removed if there is no room. A full or read-only disk stops
        nothing: the state is not there, that is all.
        """
        folder, known_digests = self.root / namespace, dict(enumerate(known))
        try:
            with self._lock():
                if not self._make_room(tables.n_bytes):
                    return None
                make_folder(folder, private=True)
                if not (folder / _RECORD).is_file():
                    write_record(folder / _RECORD, asdict(about))
                digests = tuple(
                    _write_block(folder, state, tables, index, known_digests.get(index))
                    for index in range(tables.n_blocks)
                )
                rest = cut_rest(state, tables)
                header = StateHeader(name.n_tokens, tables, digests, digest_bytes(rest))
                write_state(folder / name.file, header, rest)
                return digests
        except (G4Error, OSError) as err:
            LOG.debug("no state was written to %s: %s", self.root, err)
            return None

    def remove_state(self, namespace: str, name: StateName) -> None:
        """Remove a state, and its blocks that no other state needs."""
        with suppress(OSError), self._lock():
            (self.root / namespace / name.file).unlink(missing_ok=True)
            self._remove_unnamed(self.root / namespace)

    def clean(self) -> None:
        """Remove what processes that were killed have left, and what is beyond the limit."""
        if not self.root.is_dir():
            return
        with suppress(OSError), self._lock():
            for folder in self._list_folders():
                for path in folder.iterdir():
                    if _TEMPORARY.fullmatch(path.name):
                        path.unlink(missing_ok=True)
                self._remove_unnamed(folder)
            self._make_room(0)

    def list_namespaces(self) -> tuple[Namespace, ...]:
        """Return what is there, by model; nothing is checked."""
        namespaces = []
        for folder in self._list_folders():
            files = _stat_files(folder)
            used = [status.st_mtime for name, status in files if name.endswith(STATE_SUFFIX)]
            size = sum(status.st_size for _, status in files)
            last = max(used, default=0.0)
            namespaces.append(Namespace(folder.name, _read_about(folder), len(used), size, last))
        return tuple(sorted(namespaces, key=lambda n: (n.about.model, n.about.kv_type, n.name)))

    def remove_namespaces(self, namespaces: Sequence[Namespace]) -> None:
        """Remove all states of these. Raises UsageError if the system refuses."""
        try:
            with self._lock():
                for namespace in namespaces:
                    with suppress(FileNotFoundError):  # another process has removed it
                        shutil.rmtree(self.root / namespace.name)
        except OSError as err:
            raise UsageError(
                f"{self.root}: states cannot be removed: {err.strerror}",
                hint=shell_command("ls", "-ld", self.root),
            ) from err

    def _list_names(self, namespace: str) -> Iterator[StateName]:
        for entry in _scan_folder(self.root / namespace):
            if match := _STATE_FILE.fullmatch(entry.name):
                yield StateName(int(match[1]), match[2])

    def _list_folders(self) -> list[Path]:
        return [
            self.root / entry.name
            for entry in _scan_folder(self.root)
            if _NAMESPACE.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
        ]

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Hold the lock of the folder, which is made. Raises OSError, also for another user's."""
        make_folder(self.root, private=True)
        status = self.root.stat()
        if status.st_uid != os.geteuid():
            raise PermissionError(EPERM, "the folder belongs to another user", str(self.root))
        if status.st_mode & 0o077:  # others may enter it
            self.root.chmod(0o700)
        descriptor = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not lock_descriptor(descriptor):
                raise OSError(ENOLCK, "the file system has no locks", str(self.root))
            yield
        finally:
            os.close(descriptor)

    def _make_room(self, n_bytes: int) -> bool:
        """Remove what was used least recently until `n_bytes` more are within the limit."""
        if n_bytes > self.limit_bytes:
            return False
        files = [
            (status.st_mtime, status.st_size, folder / name)
            for folder in self._list_folders()
            for name, status in _stat_files(folder)
        ]
        used = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if used + n_bytes <= self.limit_bytes:
                break
            if path.name.endswith(STATE_SUFFIX):
                path.unlink(missing_ok=True)
                used -= size + self._remove_unnamed(path.parent)
        return used + n_bytes <= self.limit_bytes

    def _remove_broken(self, path: Path) -> None:
        """Remove a state that cannot be read, and blocks of it that are not what they should be."""
        with suppress(OSError):
            with suppress(DamagedStateError, OSError):
                for digest in read_header(path).block_digests:
                    block = path.parent / f"{digest}{BLOCK_SUFFIX}"
                    with suppress(FileNotFoundError):
                        if digest_bytes(block.read_bytes()) != digest:
                            block.unlink()
            path.unlink(missing_ok=True)

    def _remove_unnamed(self, folder: Path) -> int:
        """Remove the blocks of a namespace that no state names; return their bytes."""
        named: set[str] = set()
        for entry in _scan_folder(folder):
            if not entry.name.endswith(STATE_SUFFIX):
                continue
            try:
                named |= set(read_header(Path(entry.path)).block_digests)
            except (DamagedStateError, OSError) as err:
                LOG.debug("%s is removed: %s", entry.path, err)
                Path(entry.path).unlink(missing_ok=True)
        removed = 0
        for entry in _scan_folder(folder):
            if entry.name.endswith(BLOCK_SUFFIX) and Path(entry.name).stem not in named:
                removed += entry.stat().st_size
                Path(entry.path).unlink(missing_ok=True)
        return removed


def _write_block(folder: Path, state: Data, tables: Tables, index: int, known: str | None) -> str:
    """Write a block of a state unless it is there, and return its digest (`known` unless None)."""
    if known is not None and (folder / f"{known}{BLOCK_SUFFIX}").is_file():
        return known
    block = cut_block(state, tables, index)
    digest = digest_bytes(block)
    if not (folder / f"{digest}{BLOCK_SUFFIX}").is_file():
        write_block(folder, digest, block)
    return digest


def _scan_folder(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _stat_files(folder: Path) -> list[tuple[str, os.stat_result]]:
    """Return name and status of each file; those that a process just removes are left out."""
    files = []
    for entry in _scan_folder(folder):
        with suppress(FileNotFoundError):
            files.append((entry.name, entry.stat(follow_symlinks=False)))
    return files


def _read_about(folder: Path) -> About:
    data = read_record(folder / _RECORD)
    if not isinstance(data, dict):
        data = {}
    model, file, kv_type = (str(data.get(key, "")) for key in ("model", "file", "kv_type"))
    return About(model, file, kv_type, "media" if data.get("holds") == "media" else "prompts")
