"""Record a finished file as a model of the store, and bring local files into the store."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

from g4cli.core.errors import UsageError
from g4cli.core.file_kind import is_runnable, not_a_text_model
from g4cli.core.files import link_or_copy, require_file
from g4cli.core.gguf import read_header
from g4cli.core.hashing import sha256_of
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_word
from g4cli.core.registry import known_names
from g4cli.core.split_name import list_parts, parse_split_name
from g4cli.store.manifest import (
    Entry,
    format_now,
    make_stamp,
    role_of,
    type_of,
    write_manifest,
)
from g4cli.store.models import list_entries, model_folder

_UNSAFE: Final = re.compile(r"[^a-z0-9._-]+")


def store_path(name: str, file_name: str) -> Path:
    """Return the path of the file `file_name` of the model `name` in the store.

    Nothing is created. Raises UsageError if the path would be outside the model's folder, because
    names also come from servers.
    """
    folder = model_folder(name)
    plain = Path(file_name.replace("\\", "/")).name
    if not plain or plain.startswith(".") or "\0" in plain or folder.name in ("", ".", ".."):
        raise UsageError(
            f"{file_name!r} is not a valid file name in the store ({name})", hint="g4 list"
        )
    return folder / plain


def record_file(
    path: Path,
    *,
    name: str,
    source: str,
    sha256: str,
    type_name: str = "",
) -> Entry:
    """Write the manifest of a finished file of the store and return its entry.

    `source` is as in Entry. The type is the header's unless given: a later part of a split file
    does not say it. Raises BadGGUF if the file is not a GGUF.
    """
    header = read_header(path)
    return write_manifest(
        Entry(
            name=name,
            type=type_name or type_of(header),
            path=path,
            nbytes=header.file_size,
            sha256=sha256,
            date=format_now(),
            source=source,
            role=role_of(header),
            stamp=make_stamp(path),
        )
    )


def make_local_name(path: Path) -> str:
    """Return the name for a local folder or file: its own in lower case.

    "-local" is appended if g4 takes that name for one of its own models, such as e2b, which may
    also be written gemma-4-e2b, e2b-it or gemma-4-e2b-it.
    """
    stem = path.stem if path.suffix.lower() == ".gguf" else path.resolve().name
    name = _UNSAFE.sub("-", stem.lower()).strip("-.") or "model"
    taken = {alias.removesuffix("-it") for alias in known_names()}
    return f"{name}-local" if name.removeprefix("gemma-4-").removesuffix("-it") in taken else name


def check_name(name: str, *, before: str = "--name") -> str:
    """Return `name` if a local model may be called so. Raises UsageError.

    `before` is what precedes the name in the command that the hint proposes.
    """
    if (
        not name
        or _UNSAFE.search(name)
        or name.startswith((".", "-"))
        or make_local_name(Path(name)) != name
    ):
        raise UsageError(
            f"{name!r} is not a valid name for a local model "
            "(a-z 0-9 . _ -; not the name of a model that g4 knows)",
            hint=f"{before} {shell_word(make_local_name(Path(name)))}",
        )
    return name


def add_local_file(source: Path, *, name: str, progress: Progress = no_progress) -> Entry:
    """Return the entry of a local GGUF in the store: a hard link, or a copy from another disk.

    The other parts of a split file come with the first. If the same file is in the store under this
    name already, its entry is returned. Raises FileMissing, UsageError, BadGGUF (also for a file
    that is not a Gemma 4 text model) or NoSpace.
    """
    header = read_header(source)
    if not is_runnable(header):
        raise not_a_text_model(header)
    parts = [source]
    split = parse_split_name(source.name)
    if split and split.number == 1 and header.get("split.count", int, 1) > 1:
        others = islice(list_parts(source.name), 1, None)
        parts += [require_file(source.with_name(part)) for part in others]
    entries = [_add_part(part, name, type_of(header), progress) for part in parts]
    return entries[0]


def _add_part(source: Path, name: str, type_name: str, progress: Progress) -> Entry:
    target = store_path(name, source.name)
    entry = next((e for e in list_entries(name) if e.path == target), None)
    if entry and _is_same_file(source, target, progress):
        return entry
    if entry:
        raise UsageError(
            f"{name} already has a different file {target.name}",
            hint=f"g4 remove {shell_word(entry.label)}, or --name OTHER",
        )
    _place_file(source, target, progress)
    digest = sha256_of(target, progress=progress)
    where = f"file:{source.resolve()}"
    return record_file(target, name=name, source=where, sha256=digest, type_name=type_name)


def _is_same_file(source: Path, target: Path, progress: Progress) -> bool:
    """Return whether an earlier call linked `source` to `target`, or copied it."""
    return os.path.samefile(target, source) or (
        target.stat().st_size == source.stat().st_size
        and sha256_of(target, progress=progress) == sha256_of(source, progress=progress)
    )


def copy_entries(
    entries: Sequence[Entry], name: str, *, progress: Progress = no_progress
) -> tuple[Entry, ...]:
    """Return the files of `entries` under the name `name`: hard links, or copies.

    Raises UsageError for a name that is invalid or taken, NoSpace.
    """
    check_name(name, before="g4 copy MODEL")
    if list_entries(name):
        raise UsageError(
            f"{name} is the name of a model in the store already",
            hint=f"g4 remove {shell_word(name)}",
        )
    copies = []
    for entry in entries:
        target = store_path(name, entry.path.name)
        is_unchanged = entry.stamp == make_stamp(entry.path)
        _place_file(entry.path, target, progress)
        # Without a stamp, the hash of what may have changed is compared before it is trusted.
        stamp = make_stamp(target) if is_unchanged else ""
        copy = replace(entry, name=name, path=target, date=format_now(), stamp=stamp)
        copies.append(write_manifest(copy))
    return tuple(copies)


def _place_file(source: Path, target: Path, progress: Progress) -> None:
    try:
        link_or_copy(source, target, progress=progress)
    except FileExistsError as err:
        raise UsageError(f"{target} exists already", hint="g4 list") from err
