"""A manifest per file: where it came from and what it must be. Kept beside it as FILE.gguf.json.

    models/e2b/gemma-4-E2B_q4_0-it.gguf
    models/e2b/gemma-4-E2B_q4_0-it.gguf.json    {"name": "e2b", "type": "q4_0", "bytes": ..., "sha256": ...}

The file is the truth: a manifest that is missing or damaged is rebuilt from its file's header (without the
hash, which nobody has computed). One that is readable but disagrees with the file is kept: it is the evidence
that the file changed.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Literal, get_args

from g4cli.core.errors import BadFile
from g4cli.core.files import atomic_file
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header

Role = Literal["model", "mmproj", "draft", "part"]
SUFFIX: Final = ".json"
FORMAT: Final = 1
_MAX_BYTES: Final = 64 * 1024  # a manifest is under 1 KiB


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the store. `sha256` is "" when nobody has computed it; `source` says where it came from.

    `stamp` is the file's `stamp_of` when its hash was computed, "" if it was not.
    `source`: "bundled", "hf:OWNER/REPO/FILE@REVISION", "file:PATH", "made from SOURCE", or "found".
    """

    name: str
    type: str
    path: Path
    nbytes: int
    sha256: str
    date: str
    source: str
    role: Role = "model"
    stamp: str = ""

    @property
    def label(self) -> str:
        """Return what the user types for it: `e2b:q4_0`."""
        return f"{self.name}:{self.type}"

    @property
    def title(self) -> str:
        """Return how it is called among others: `e2b:q4_0`, `e2b:mmproj` for what lies beside a model."""
        if self.role == "part":
            return f"{self.label} part"
        return self.label if self.role == "model" else f"{self.name}:{self.role}"

    @property
    def origin(self) -> str:
        """Return the source as people read it: without hashes, shortened commits."""
        text = re.sub(r"@([0-9a-f]{7})[0-9a-f]*$", r" @\1", self.source)
        return re.sub(r"^bundled @.*", "bundled with g4", text).removeprefix("file:")

    def as_json(self) -> dict[str, Any]:
        """Return the entry as `g4 list --json` shows it."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("nbytes", "stamp")}
        return {**kept, "bytes": self.nbytes}


def manifest_path(path: Path) -> Path:
    """Return where the manifest of `path` lies."""
    return path.with_name(path.name + SUFFIX)


def format_now() -> str:
    """Return this moment as manifests hold it: '2026-11-20T10:30:00Z'."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_stamp(path: Path) -> str:
    """Return a text that changes whenever the file may have: of its times and its inode. Raises OSError."""
    status = path.stat()
    return f"{status.st_mtime_ns}.{status.st_ctime_ns}.{status.st_ino}"


def write_manifest(entry: Entry) -> Entry:
    """Write the manifest of `entry` and return the entry. Raises NoSpace, UsageError."""
    fields = {k: v for k, v in entry.as_json().items() if k != "path"}
    fields |= {"format": FORMAT, "stamp": entry.stamp}
    with atomic_file(manifest_path(entry.path)) as file:
        file.write(json.dumps(fields, indent=2, sort_keys=True).encode() + b"\n")
    return entry


def read_manifest(path: Path, name: str) -> Entry:
    """Return what the manifest of the file `path` says. Raises BadFile if it is missing or damaged."""
    place = manifest_path(path)
    try:
        with place.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ValueError("too large")
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise ValueError(f"not a manifest of format {FORMAT}")
        texts = {key: fields[key] for key in ("type", "sha256", "date", "source", "role")}
        if (
            not all(isinstance(value, str) for value in texts.values())
            or type(fields["bytes"]) is not int
        ):
            raise ValueError("a field has the wrong kind")
        if texts["role"] not in get_args(Role):
            raise ValueError(f"unknown role {texts['role']!r}")
        stamp = fields.get("stamp", "")
        if not isinstance(stamp, str):
            raise ValueError("a field has the wrong kind")
        # The folder decides the name: a copied manifest must not rename a model.
        return Entry(name=name, path=path, nbytes=fields["bytes"], stamp=stamp, **texts)
    except (OSError, ValueError, KeyError, RecursionError) as err:
        raise BadFile(
            f"{place}: the manifest is missing or damaged ({err})", hint="g4 list"
        ) from err


def load_entry(path: Path, name: str) -> Entry:
    """Return the manifest of `path`, or what the file's header says if it is damaged. Writes nothing.

    Raises BadGGUF if the file itself is no GGUF.
    """
    try:
        return read_manifest(path, name)
    except BadFile:
        return describe_file(path, name)


def describe_file(path: Path, name: str) -> Entry:
    """Return an entry made from the header of `path` alone. Raises BadGGUF."""
    header = read_header(path, check_data=False)
    stamp = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
    return Entry(
        name=name,
        type=type_of(header),
        path=path,
        nbytes=header.file_size,
        sha256="",
        date=stamp.strftime("%Y-%m-%dT%H:%M:%SZ"),
        source="found",
        role=role_of(header),
    )


def role_of(header: Header) -> Role:
    """Return what the file is for: by its architecture, and whether it is a later part of a split file."""
    part = header.keys.get("split.no")
    if part and isinstance(part.data, int) and part.data > 0:
        return "part"
    value = header.keys.get("general.architecture")
    architecture = str(value.data) if value else ""
    if architecture == "clip":
        return "mmproj"
    return "draft" if architecture.endswith("-assistant") else "model"


def type_of(header: Header) -> str:
    """Return the file's type as people name it: general.file_type, else the type that holds most bytes."""
    from g4cli.quant.mixtures import FILE_TYPES

    if _text(header, "g4.format").lower().startswith("sfp8"):
        return "sfp8"
    value = header.keys.get("general.file_type")
    number = value.data if value else None
    held: dict[str, int] = {}
    for tensor in header.tensors.values():
        held[tensor.type.name.lower()] = held.get(tensor.type.name.lower(), 0) + tensor.nbytes
    if not held:
        return "vocab"
    named = next((f.name for f in FILE_TYPES if f.ftype == number and f.name != "sfp8"), None)
    return named or max(held, key=lambda name: held[name])


def describe_damage(entry: Entry) -> str | None:
    """Return how the file contradicts its manifest, by size alone, or None."""
    try:
        size = entry.path.stat().st_size
    except OSError as err:
        return f"cannot be read: {err.strerror}"
    if size != entry.nbytes:
        return f"{size:,} bytes on disk, {entry.nbytes:,} in its manifest"
    return None


def _text(header: Header, key: str) -> str:
    value = header.keys.get(key)
    return value.data if value and isinstance(value.data, str) else ""
