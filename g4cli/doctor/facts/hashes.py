"""Read the sha256 that is recorded for a file, and compute its own.

A record is a file beside it (MODEL.gguf.sha256), g4's manifest of the download (MODEL.gguf.json),
or the name that the Hugging Face cache gave it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.core.files import open_file
from g4cli.core.hashing import sha256_of
from g4cli.core.units import GIB

_SHA256: Final = re.compile(r"\b[0-9a-f]{64}\b")
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
        sidecar = path.with_name(path.name + suffix)
        if sidecar.is_file() and (match := _SHA256.search(_read_start(sidecar).lower())):
            return match[0], sidecar.name
    manifest = path.with_name(path.name + ".json")
    if manifest.is_file():
        try:
            value = json.loads(_read_start(manifest)).get("sha256")
        except (ValueError, AttributeError, RecursionError):
            value = None
        if isinstance(value, str) and _SHA256.fullmatch(value):
            return value, "g4's record of the download"
    # The hub's own cache names each blob by its hash.
    real = path.resolve()
    if real.parent.name == "blobs" and _SHA256.fullmatch(real.name):
        return real.name, "the hub's cache"
    return None


def _read_start(path: Path) -> str:
    with open_file(path) as file:
        return file.read(_MAX_RECORD_BYTES).decode("utf-8", "replace")
