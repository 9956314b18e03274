"""Does the file have the hash that somebody recorded for it?"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from g4cli.core.files import open_file
from g4cli.core.hashing import sha256_of
from g4cli.core.units import GIB
from g4cli.doctor.report import Check, Outcome, fail, ok, skipped

if TYPE_CHECKING:
    from g4cli.doctor.facts.file_facts import FileFacts

_SHA: Final = re.compile(r"\b[0-9a-f]{64}\b")
_MANIFEST: Final = ".json"
_SMALL: Final = GIB  # larger files are hashed only with --deep


@dataclass(frozen=True, slots=True)
class Hashes:
    """The hash on record, where it was found, and the file's own ("" if not computed)."""

    recorded: str
    source: str
    actual: str = ""


def read_hashes(path: Path, *, deep: bool) -> Hashes | None:
    """Return the hash recorded beside the file, or None; the file is read only if small or with `deep`."""
    found = _recorded(path)
    if found is None:
        return None
    recorded, source = found
    if not deep and path.stat().st_size > _SMALL:
        return Hashes(recorded, source)
    return Hashes(recorded, source, sha256_of(path))


def _recorded(path: Path) -> tuple[str, str] | None:
    for suffix in (".sha256", ".sha256sum"):
        sidecar = path.with_name(path.name + suffix)
        if sidecar.is_file() and (match := _SHA.search(_head(sidecar).lower())):
            return match[0], sidecar.name
    manifest = path.with_name(path.name + _MANIFEST)
    if manifest.is_file():
        try:
            value = json.loads(_head(manifest)).get("sha256")
        except (ValueError, AttributeError, RecursionError):
            value = None
        if isinstance(value, str) and _SHA.fullmatch(value):
            return value, "g4's record of the download"
    # The hub's own cache names each blob by its hash.
    real = path.resolve()
    if real.parent.name == "blobs" and _SHA.fullmatch(real.name):
        return real.name, "the hub's cache"
    return None


def _head(path: Path) -> str:
    with open_file(path) as file:
        return file.read(65_536).decode("utf-8", "replace")


def check_hash(facts: FileFacts) -> Outcome:
    """Compare the file with the hash on record."""
    hashes = facts.hashes
    if hashes is None:
        return skipped("no hash on record beside the file")
    if not hashes.actual:
        return skipped(
            f"a hash is on record ({hashes.source}); computing it takes --deep",
            "g4 doctor FILE --deep",
        )
    if hashes.actual != hashes.recorded:
        return fail(
            f"sha256 is {hashes.actual[:12]}..., {hashes.source} says {hashes.recorded[:12]}...: "
            "not the bytes that were published",
            "download it again, or remove the record if you changed the file yourself",
            cause="file-damaged",
            confidence="high",
        )
    return ok(f"sha256 {hashes.actual[:12]}... equals {hashes.source}")


CHECKS: Final = (Check("file.hash", check_hash),)
