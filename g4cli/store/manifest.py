"""Manifests: where a file of the store came from and what it must be. Stored as FILE.gguf.json.

    models/e2b/gemma-4-E2B_q4_0-it.gguf
    models/e2b/gemma-4-E2B_q4_0-it.gguf.json    {"name": "e2b", "type": "q4_0", ...}

Without a manifest, or with a damaged one, a file is described by its own header; it then has no
hash. A manifest that can be read but contradicts its file is kept: it proves that the file has
changed.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Literal, get_args

from g4cli.core.errors import BadFile
from g4cli.core.file_kind import MMPROJ, file_type_text, text_key
from g4cli.core.files import atomic_file
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header
from g4cli.core.hub_address import is_on_hub

# What a file is for. A split model has one file "model", its first part, and others "part".
Role = Literal["model", "mmproj", "draft", "part"]
SUFFIX: Final = ".json"
FORMAT: Final = 1
_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"  # in UTC
_MAX_BYTES: Final = 64 * 1024  # a manifest is under 1 KiB


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the store. `sha256` is "" if it was never computed.

    `name` is that of the model, `type` as type_of returns it, `date` when the file was recorded.
    `stamp` is the result of make_stamp when the hash was computed, "" if it was not.
    `source`: "bundled@FINGERPRINT", "hf:OWNER/REPO/FILE@COMMIT", "file:PATH" (of a GGUF),
    "file:PATH@FINGERPRINT" (of a checkpoint, see make.py), "made from SOURCE", or "found" for a
    file without a manifest.
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
        """The name that the user types: `e2b:q4_0`."""
        return f"{self.name}:{self.type}"

    @property
    def title(self) -> str:
        """The name that tells it from the other files of the model: `e2b:q4_0`, `e2b:mmproj`."""
        if self.role == "part":
            return f"{self.label} part"
        return self.label if self.role == "model" else f"{self.name}:{self.role}"

    def is_of_revision(self, revision: str) -> bool:
        """Return whether it was pulled from the commit that `revision` names; "" is any commit.

        What a branch or a tag names, only the hub knows: False for these.
        """
        return self.source.rpartition("@")[2].startswith(revision)

    def is_of_file(self, path: str) -> bool:
        """Return whether it was pulled from the file `path` of its repository.

        Of what was not pulled from a repository, the name of the file decides.
        """
        if is_on_hub(self.source):
            return self.source.partition("@")[0].split("/", 2)[2:] == [path]
        return self.path.name == path.rpartition("/")[2]

    @property
    def origin(self) -> str:
        """The source in words: without hashes, the commit shortened."""
        text = re.sub(r"@([0-9a-f]{7})[0-9a-f]*$", r" @\1", self.source)
        return re.sub(r"^bundled @.*", "bundled with g4", text).removeprefix("file:")

    def as_json(self) -> dict[str, Any]:
        """Return the entry as `g4 list --json` shows it."""
        kept = {k: v for k, v in asdict(self).items() if k not in ("nbytes", "stamp")}
        return {**kept, "bytes": self.nbytes}


def manifest_path(path: Path) -> Path:
    """Return the path of the manifest of the file `path`."""
    return path.with_name(path.name + SUFFIX)


def format_now() -> str:
    """Return the current time as manifests store it: '2026-11-20T10:30:00Z'."""
    return datetime.now(timezone.utc).strftime(_TIME_FORMAT)


def make_stamp(path: Path) -> str:
    """Return the file's times and inode as text, which changes with the file. Raises OSError."""
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
    """Return what the manifest of `path` says. Raises BadFile if it is missing or damaged."""
    manifest = manifest_path(path)
    try:
        with manifest.open("rb") as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise ValueError("too large")
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise ValueError(f"not a manifest of format {FORMAT}")
        texts = {key: fields[key] for key in ("type", "sha256", "date", "source", "role")}
        texts["stamp"] = fields.get("stamp", "")  # absent in manifests of older versions
        if (
            not all(isinstance(value, str) for value in texts.values())
            or type(fields["bytes"]) is not int
        ):
            raise ValueError("a field has the wrong kind")
        if texts["role"] not in get_args(Role):
            raise ValueError(f"unknown role {texts['role']!r}")
        # The folder decides the name: a copied manifest must not rename a model.
        return Entry(name=name, path=path, nbytes=fields["bytes"], **texts)
    except (OSError, ValueError, KeyError, RecursionError) as err:
        raise BadFile(
            f"{manifest}: the manifest is missing or damaged ({err})", hint="g4 list"
        ) from err


def load_entry(path: Path, name: str) -> Entry:
    """Return the manifest of `path`, or what the file's header says if that is damaged.

    Raises BadGGUF if the file is not a GGUF.
    """
    try:
        return read_manifest(path, name)
    except BadFile:
        return describe_file(path, name)


def describe_file(path: Path, name: str) -> Entry:
    """Return an entry made from the header of `path` alone. Raises BadGGUF."""
    header = read_header(path, check_data=False)
    changed_at = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
    return Entry(
        name=name,
        type=type_of(header),
        path=path,
        nbytes=header.file_size,
        sha256="",
        date=changed_at.strftime(_TIME_FORMAT),
        source="found",
        role=role_of(header),
    )


def role_of(header: Header) -> Role:
    """Return what the file is for, by its architecture and, of a split file, its part number."""
    part = header.keys.get("split.no")
    # The first part (number 0) stands for the whole: llama.cpp finds the others by its name.
    if part and isinstance(part.data, int) and part.data > 0:
        return "part"
    architecture = text_key(header, "general.architecture")
    if architecture == MMPROJ:
        return "mmproj"
    return "draft" if architecture.endswith("-assistant") else "model"


def type_of(header: Header) -> str:
    """Return the type of the file as `g4 quantize --type` names it, "vocab" without tensors.

    llama.cpp calls the type mxfp4 of a file MXFP4_MOE.
    """
    if text_key(header, "g4.format").lower().startswith("sfp8"):
        return "sfp8"
    return file_type_text(header).lower().removesuffix("_moe") if header.tensors else "vocab"


def describe_damage(entry: Entry) -> str | None:
    """Return how the size of the file contradicts its manifest, or None. Nothing is read."""
    try:
        size = entry.path.stat().st_size
    except OSError as err:
        return f"cannot be read: {err.strerror}"
    if size != entry.nbytes:
        return f"{size:,} bytes on disk, {entry.nbytes:,} in its manifest"
    return None
