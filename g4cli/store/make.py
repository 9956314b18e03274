"""Make a model on this machine: from the bundled checkpoint, a local one, or another file."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.converters.folder_file import open_inside
from g4cli.core.errors import FileMissing, UsageError
from g4cli.core.files import is_folder, require_file
from g4cli.core.paths import tiny_dir
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_command
from g4cli.store.adopt import add_local_file, check_name, make_local_name, record_file, store_path
from g4cli.store.manifest import Entry
from g4cli.store.models import list_entries
from g4cli.store.verify import is_intact

_CHECKPOINT_FILES: Final = (".json", ".jinja", ".safetensors")
_SAMPLE_BYTES: Final = 256 * 1024  # of both ends of a file: a choice


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model of the store, and whether it is new there."""

    entry: Entry
    is_new: bool


def pull_bundled(
    name: str, type_name: str, *, restart: bool = False, progress: Progress = no_progress
) -> Pulled:
    """Return the bundled model `name` in one type, converted unless it is in the store already.

    `restart` converts it again in any case. Raises UsageError (an unknown type) or NoSpace.
    """
    return _convert_once(tiny_dir(), name, type_name, "bundled", restart, progress)


def pull_path(
    path: Path,
    *,
    name: str | None = None,
    restart: bool = False,
    progress: Progress = no_progress,
) -> Pulled:
    """Return the model at a local path: a checkpoint folder is converted, a GGUF is linked.

    `name` None: the name of the folder or file. `restart` converts a folder again in any case.
    Raises FileMissing, UsageError, BadCheckpoint, BadGGUF or NoSpace.
    """
    name = check_name(name) if name else make_local_name(path)
    if not is_folder(path):
        known = {entry.path for entry in list_entries(name)}
        entry = add_local_file(require_file(path), name=name, progress=progress)
        return Pulled(entry, entry.path not in known)
    try:
        require_file(path / "config.json")
    except FileMissing as err:
        raise UsageError(
            f"{path} has no config.json: it is not a Hugging Face checkpoint",
            hint=shell_command("ls", path),
        ) from err
    return _convert_once(path, name, "bf16", f"file:{path.resolve()}", restart, progress)


def _convert_once(
    folder: Path, name: str, type_name: str, origin: str, restart: bool, progress: Progress
) -> Pulled:
    """Return the model made from the checkpoint in `folder`, now or by an earlier call.

    `origin` is the part of Entry.source before the fingerprint.
    """
    target = store_path(name, f"{name}-{type_name.upper()}.gguf")
    source = f"{origin}@{_fingerprint_checkpoint(folder)}"
    for entry in () if restart else list_entries(name):
        # With another fingerprint the checkpoint has changed, and its file would differ.
        if entry.path == target and entry.source == source and is_intact(entry):
            return Pulled(entry, False)
    sha256 = make_from_checkpoint(folder, target, type_name=type_name, progress=progress)
    entry = record_file(target, name=name, source=source, sha256=sha256, type_name=type_name)
    return Pulled(entry, True)


def make_from_checkpoint(
    folder: Path, target: Path, *, type_name: str, progress: Progress = no_progress
) -> str:
    """Make the GGUF `target` from the Hugging Face checkpoint in `folder`; return its sha256.

    Raises BadCheckpoint, UsageError (an unknown type) or NoSpace; no partial file is left.
    """
    from g4cli.store.recode import convert_folder

    converted = convert_folder(folder, target, type_name=type_name, force=True, progress=progress)
    return converted.sha256


def make_from_file(
    source: Path, target: Path, *, type_name: str, progress: Progress = no_progress
) -> str:
    """Make the GGUF `target` by quantizing the file `source`; return its sha256.

    SFP8 values are stored as BF16 numbers, which llama.cpp runs. Raises UsageError, BadGGUF or
    NoSpace.
    """
    from g4cli.quant.file import quantize_file
    from g4cli.quant.recipes import Recipe

    recipe = Recipe(type_name, container="bf16") if type_name == "sfp8" else Recipe(type_name)
    return quantize_file(source, target, recipe=recipe, force=True, progress=progress).sha256


def _fingerprint_checkpoint(folder: Path) -> str:
    """Return 12 hexadecimal digits that change when the checkpoint does.

    They are a hash of the size, the first and the last 256 KiB of every file. Training changes all
    weights, so reading all of 60 GB would tell no more.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in _CHECKPOINT_FILES):
        if not path.is_file():  # a folder, a pipe or a broken link is not read
            continue
        with open_inside(path) as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(os.fsencode(f"{path.name} {size}\n"))
            for start in (0, max(0, size - _SAMPLE_BYTES)):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:12]
