"""Find files in the Hugging Face cache. Nothing is written there.

models--OWNER--REPO/refs/main                    the commit
models--OWNER--REPO/snapshots/COMMIT/FILE        a link to ../../blobs/SHA256
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from g4cli.hub.client import Repository
from g4cli.hub.listing import SHA1, SHA256, RemoteFile

_MAX_FILES: Final = 10_000  # of a snapshot that are looked at: a choice


def cached_file(cache: Path, repo: str, file: RemoteFile) -> Path | None:
    """Return the cached copy of `file`, found by its hash, or None."""
    # Any revision's copy will do: blobs are named by their sha256, or sha1 as git computes it.
    name = file.sha256 or file.git_oid
    if not SHA256.fullmatch(name) and not SHA1.fullmatch(name):
        return None
    blob = _repository_folder(cache, repo) / "blobs" / name
    try:
        # Where several people share a cache, not everyone may read all of it.
        is_usable = blob.is_file() and os.access(blob, os.R_OK)
        return blob if is_usable and blob.stat().st_size == file.nbytes else None
    except OSError:
        return None


def cached_repository(cache: Path, repo: str, revision: str | None = None) -> Repository | None:
    """Return what the cache knows of a repository, for use without a network, or None.

    `revision` is a branch or tag (None: main) or a commit.
    """
    folder = _repository_folder(cache, repo)
    commit = revision or "main"
    try:
        ref = folder / "refs" / commit
        if ".." not in commit and ref.is_file():  # a revision may not lead out of the cache
            commit = ref.read_text().strip()
        snapshot = folder / "snapshots" / commit
        if not SHA1.fullmatch(commit) or not snapshot.is_dir():
            return None
        files = []
        for path in sorted(snapshot.rglob("*"))[:_MAX_FILES]:
            if path.is_file():
                name = path.resolve().name
                files.append(
                    RemoteFile(
                        path.relative_to(snapshot).as_posix(),
                        path.stat().st_size,
                        sha256=name if SHA256.fullmatch(name) else "",
                        git_oid=name if SHA1.fullmatch(name) else "",
                    )
                )
    except (OSError, UnicodeDecodeError):
        return None
    return Repository(repo, commit, tuple(files)) if files else None


def _repository_folder(cache: Path, repo: str) -> Path:
    return cache / ("models--" + repo.replace("/", "--"))
