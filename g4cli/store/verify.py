"""Compare a file of the store with its manifest."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from g4cli.core.errors import G4Error
from g4cli.core.gguf import read_header
from g4cli.core.hashing import sha256_of
from g4cli.core.hub_address import is_on_hub
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_command
from g4cli.core.registry import known_names
from g4cli.core.split_name import list_parts
from g4cli.store.adopt import make_local_name
from g4cli.store.manifest import Entry, describe_damage, make_stamp, write_manifest
from g4cli.store.models import list_entries

Status = Literal["ok", "wrong", "unknown"]


@dataclass(frozen=True, slots=True)
class Verified:
    """The result for one file; `detail` explains it in words.

    `status` "unknown": its header is valid, but no hash was recorded. `sha256` is that of the file
    now, or "" if it was not read to its end because something else was wrong.
    """

    entry: Entry
    status: Status
    detail: str
    sha256: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the result as `g4 verify --json` shows it."""
        return {
            "name": self.entry.name,
            "type": self.entry.type,
            "path": self.entry.path,
            "status": self.status,
            "detail": self.detail,
            "sha256": self.sha256,
            "expected": self.entry.sha256,
        }


def verify_entry(entry: Entry, *, progress: Progress = no_progress) -> Verified:
    """Return whether `entry`'s file has the size and sha256 of its manifest and a valid header."""
    damage = describe_damage(entry)
    if damage:
        return Verified(entry, "wrong", damage)
    try:
        read_header(entry.path)
        digest = sha256_of(entry.path, progress=progress)
    except (G4Error, OSError) as err:
        return Verified(entry, "wrong", err.message if isinstance(err, G4Error) else str(err))
    if not entry.sha256:
        return Verified(entry, "unknown", "no hash was recorded; header and size are valid", digest)
    if digest != entry.sha256:
        return Verified(
            entry, "wrong", f"sha256 {digest[:16]} where {entry.sha256[:16]} was recorded", digest
        )
    return Verified(entry, "ok", f"sha256 {digest[:16]}", digest)


def is_intact(entry: Entry, *, progress: Progress = no_progress) -> bool:
    """Return whether the file of `entry` is what its manifest says.

    It is hashed only if its times or inode have changed since it was recorded. If no hash was
    recorded, only its header is checked.
    """
    if describe_damage(entry):
        return False
    try:
        stamp = make_stamp(entry.path)
        if not entry.sha256:
            read_header(entry.path)
        elif entry.stamp != stamp:
            if sha256_of(entry.path, progress=progress) != entry.sha256:
                return False
            with suppress(G4Error):  # the store is read-only: the new stamp is not kept
                write_manifest(replace(entry, stamp=stamp))
    except (G4Error, OSError):
        return False
    return True


def describe_repair(entry: Entry) -> str:
    """Return how to restore the file of `entry`: the command, or why there is none."""
    # As `g4 remove` takes it: it removes all parts of a split file together.
    in_store = entry.title if entry.role in ("mmproj", "draft") else entry.label
    remove = shell_command("g4", "remove", in_store, "--yes")
    if entry.source.startswith("file:"):
        # A checkpoint has a fingerprint, @ and 12 digits (see store/make.py), a GGUF has none.
        path = Path(re.sub("@[0-9a-f]{12}$", "", entry.source.removeprefix("file:")))
        parts = [path.with_name(part) for part in list_parts(path.name)]
        try:
            # A hard link has the same bytes under two names.
            lost = "has changed with it" if path.samefile(entry.path) else ""
            for part in parts:
                part.stat()
        except OSError:
            lost = "is gone"
        if lost:
            return f"it came from {path}, which {lost}; to remove it: {remove}"
        name = [] if make_local_name(parts[0]) == entry.name else ["--name", entry.name]
        return f"to restore it: {remove} && {shell_command('g4', 'pull', parts[0], *name)}"
    if entry.name not in known_names() and not is_on_hub(entry.name):
        return f"g4 pull knows no model {entry.name}; to remove it: {remove}"
    if is_on_hub(entry.name) and is_on_hub(entry.source):
        # By its path and commit: the repository may have several files of this type, or none.
        return f"to restore it: {shell_command('g4', 'pull', entry.source, '--restart')}"
    if in_store == entry.label:
        return f"to restore it: {shell_command('g4', 'pull', entry.label, '--restart')}"
    # A sidecar is downloaded with its model if it is not in the store.
    labels = [e.label for e in list_entries(entry.name) if e.role == "model"]
    draft = ["--draft"] if entry.role == "draft" else []
    pull = shell_command("g4", "pull", (labels or [entry.name])[0], *draft)
    return f"to restore it: {remove} && {pull}"
