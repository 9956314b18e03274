"""Fetch one file of a repository, from the Hugging Face cache or the hub, and verify it.

`g4 pull` (operations/pull) runs a Fetch for each file of its plan, and records the result in
the store. This module decides where the bytes come from; transfer.py downloads them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from g4cli.core.errors import BadFile, G4Error, HashMismatch, Interrupted
from g4cli.core.files import link_or_copy
from g4cli.core.gguf import read_header
from g4cli.core.hashing import git_oid_of, sha256_of
from g4cli.core.progress import Progress, no_progress
from g4cli.core.spans import Span
from g4cli.core.units import size_text
from g4cli.hub import reuse
from g4cli.hub.cache import cached_file
from g4cli.hub.client import Hub, Location, Repository
from g4cli.hub.header import remote_header
from g4cli.hub.journal import Goal, Partial
from g4cli.hub.listing import SHA1, SHA256, RemoteFile
from g4cli.hub.lock import hold_lock
from g4cli.hub.transfer import Limits, Transfer


@dataclass(frozen=True, slots=True)
class Fetched:
    """A verified file: its sha256, and where it was found.

    `origin` is "hub", "cache" (the Hugging Face cache) or "here" (the target existed).
    """

    sha256: str
    origin: Literal["hub", "cache", "here"]


@dataclass(frozen=True, slots=True)
class Fetch:
    """The fetch of `file` to `target`, its content verified against the hub's record.

    `restart` discards the target and its partial file first. `notice` receives sentences for the
    user, `cancelled` is asked again and again whether to stop.
    """

    hub: Hub
    repository: Repository
    file: RemoteFile
    target: Path
    restart: bool = False
    progress: Progress = no_progress
    notice: Callable[[str], None] = lambda _: None
    limits: Limits = field(default_factory=Limits)
    cancelled: Callable[[], bool] = lambda: False

    def run(self) -> Fetched:
        """Fetch the file. One process downloads, others wait for it.

        Raises NetworkError, NotFound, BadFile, HashMismatch, NoSpace, UsageError or Interrupted
        (Ctrl-C, or `cancelled` became true); what has arrived is always kept, unless `restart`.
        """

        def report(done: int, total: int, part: str) -> None:
            if self.cancelled():  # another thread received Ctrl-C (together.py)
                raise KeyboardInterrupt
            self.progress(done, total, part)

        waiting = f"waiting: another g4 process is downloading {self.target.name}"
        with hold_lock(self.target, on_wait=lambda: self.notice(waiting), cancelled=self.cancelled):
            try:
                return _find_or_download(replace(self, progress=report))
            except KeyboardInterrupt:  # where nothing is downloaded
                raise Interrupted("interrupted", hint="run the same command again") from None


def _find_or_download(request: Fetch) -> Fetched:
    """Return where the file was: at the target, in the Hugging Face cache or on the hub."""
    target, progress = request.target, request.progress
    file = _with_hash(request.hub, request.repository, request.file)
    if (
        target.is_file()
        and not request.restart
        and (digest := _verify_file(target, file, progress))
    ):
        return Fetched(digest, "here")
    cached = cached_file(request.hub.options.cache, request.repository.repo, file)
    if cached and (digest := _verify_file(cached, file, progress)):
        request.notice(f"{file.name} found in the Hugging Face cache")
        link_or_copy(
            cached,
            target,
            replace=True,
            progress=lambda done, total, _: progress(done, total, file.name),
        )
        return Fetched(digest, "cache")
    return _download_file(replace(request, file=file))


def _download_file(request: Fetch) -> Fetched:
    """Complete the partial file of the target and rename it, holding the target's lock."""
    file = request.file
    # Ask for the URL before writing anything, so that a refusal leaves nothing on the disk.
    location = request.hub.locate_file(request.repository, file)
    partial = Partial(request.target, Goal(file.nbytes, file.sha256, file.git_oid))
    try:
        if request.restart:
            partial.forget_span(0, file.nbytes)
        arrived = partial.arrived_bytes
        if arrived:
            request.notice(
                f"{file.name}: resuming at {size_text(arrived)} of {size_text(file.nbytes)}"
            )
        copied = None if arrived else _copy_old_weights(request, partial)
        try:
            _run_transfer(request, partial, location)
        except HashMismatch:
            # Equal headers do not prove equal weights: fetch what was copied.
            if not copied:
                raise
            request.notice(f"{file.name}: its weights changed too; downloading them")
            partial.forget_span(*copied)
            _run_transfer(request, partial, None)
    except KeyboardInterrupt:
        kept = size_text(partial.arrived_bytes)
        partial.close()
        raise Interrupted(
            f"interrupted; {kept} of {file.name} ({size_text(file.nbytes)}) are kept",
            hint="run the same command again to resume",
        ) from None
    except BaseException:
        partial.close()
        raise
    partial.finish(request.target)
    _drop_older_partials(request.target)
    # Manifests record sha256. Files in git itself have none, but are small.
    digest = file.sha256 or sha256_of(request.target, progress=request.progress)
    return Fetched(digest, "hub")


def _copy_old_weights(request: Fetch, partial: Partial) -> Span | None:
    """Copy the weights of an older file at the target, if its header says they are the same.

    Returns the byte range that was copied, or None.
    """
    file = request.file
    if request.restart or file.nbytes < reuse.MIN_FILE_BYTES:
        return None
    try:
        old = read_header(request.target)
    except G4Error:  # there is none, or it is no GGUF, as the weights of a checkpoint
        return None
    new = remote_header(request.hub, request.repository, file)
    copied = reuse.copy_weights(partial, old, new, label=file.name, progress=request.progress)
    if copied:
        request.notice(f"{file.name}: only its header changed; reusing the weights on this disk")
    return copied


def _run_transfer(request: Fetch, partial: Partial, location: Location | None) -> None:
    """Fetch what is missing and verify the hash of the whole.

    `location` is the URL to begin with; the hub is asked for one if it is None or has expired.
    """
    locations = iter([location] if location else [])
    Transfer(
        partial,
        lambda: next(locations, None) or request.hub.locate_file(request.repository, request.file),
        label=request.file.name,
        progress=request.progress,
        limits=request.limits,
        cancelled=request.cancelled,
    ).run()


def find_partials(target: Path) -> list[Path]:
    """Return the partial files of `target`, of its present and of earlier contents."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[^.]+\.part")  # a Goal.key has no dot
    return sorted(path for path in target.parent.iterdir() if name.fullmatch(path.name))


def _drop_older_partials(target: Path) -> None:
    # The file is complete: other partial files belong to contents that the hub has replaced.
    for partial in find_partials(target):
        with suppress(OSError):
            partial.unlink()
            partial.with_suffix(".journal").unlink(missing_ok=True)


def _with_hash(hub: Hub, repository: Repository, file: RemoteFile) -> RemoteFile:
    """Return `file` with the hash of its listing, or else of its ETag.

    Raises BadFile if there is neither.
    """
    if file.sha256 or file.git_oid:
        return file
    etag = hub.locate_file(repository, file).etag
    if SHA256.fullmatch(etag):
        return replace(file, sha256=etag)
    if SHA1.fullmatch(etag):
        return replace(file, git_oid=etag)
    raise BadFile(
        f"{repository.repo}/{file.path} cannot be verified: the hub records no hash of it",
        hint="download it in another way, then: g4 pull FILE.gguf",
    )


def _verify_file(path: Path, file: RemoteFile, progress: Progress) -> str:
    """Return the sha256 of the file at `path` if its content is that of `file`, else ""."""
    if path.stat().st_size != file.nbytes:
        return ""
    if not file.sha256 and git_oid_of(path) != file.git_oid:
        return ""
    digest = sha256_of(path, progress=progress)
    return digest if file.sha256 in ("", digest) else ""
