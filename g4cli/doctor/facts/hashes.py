"""Read the sha256 that is recorded for a file, and compute its own.

A record is a file beside it (MODEL.gguf.sha256), g4's manifest of the download (MODEL.gguf.json),
or the name that the Hugging Face cache gave it.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.core.files import open_file
from g4cli.core.hashing import sha256_of
from g4cli.core.units import GIB

_SHA256: Final = re.compile(r"\b[0-9a-fA-F]{64}\b")
# Larger files are hashed only with --deep. A choice: one GiB takes about a second.
_MAX_BYTES: Final = GIB
# Bytes of a record that are read at most: it may be any file of that name.
_MAX_RECORD_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Hashes:
    """The recorded sha256, where it was found, and the file's own ('' if it was not computed)."""

    recorded: str
    source: str
    actual: str = ""


def read_hashes(path: Path, *, deep: bool) -> Hashes | None:
    """Return the hashes of a file, or None if none is recorded for it.

    The file itself is read only up to 1 GiB of size, or with `deep`.
    """
    record = _find_record(path)
    if record is None:
        return None
    recorded, source = record
    if not deep and path.stat().st_size > _MAX_BYTES:
        return Hashes(recorded, source)
    return Hashes(recorded, source, sha256_of(path))


def _find_record(path: Path) -> tuple[str, str] | None:
    """Return the recorded sha256 and the name of its source, or None."""
    for suffix in (".sha256", ".sha256sum"):
        record = path.with_name(path.name + suffix)
        # Path.is_file raises OSError for a name that is too long.
        if os.path.isfile(record) and (found := _find_hash(_read_start(record), path.name)):
            return found, record.name
    manifest = path.with_name(path.name + ".json")
    if os.path.isfile(manifest):
        try:
            value = json.loads(_read_start(manifest)).get("sha256")
        except (ValueError, AttributeError, RecursionError):
            value = None
        if isinstance(value, str) and _SHA256.fullmatch(value):
            return value.lower(), "g4's record of the download"
    # The hub's own cache names each blob by its hash.
    real = path.resolve()
    if real.parent.name == "blobs" and _SHA256.fullmatch(real.name):
        return real.name.lower(), "the hub's cache"
    return None


def _find_hash(text: str, name: str) -> str:
    """Return the sha256 in the line that names the file, else the only one in `text`, else "".

    Lines are as sha256sum writes them: "HASH  NAME", "HASH *NAME" or "SHA256 (NAME) = HASH".
    """
    hashes = []
    for line in text.splitlines():
        if match := _SHA256.search(line):
            hashes.append(match[0].lower())
            before, after = line[: match.start()], line[match.end() :]
            named = after[2:] or before.removeprefix("SHA256 (").removesuffix(") = ")
            if re.split(r"[/\\]", named)[-1] == name:
                return hashes[-1]
    return hashes[0] if len(hashes) == 1 else ""


def _read_start(path: Path) -> str:
    with open_file(path) as file:
        return file.read(_MAX_RECORD_BYTES).decode("utf-8", "replace")
