"""Make a model file on this machine: from the bundled checkpoint, a local one, or a larger file."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from g4cli.converters.folder_file import open_inside
from g4cli.core.errors import UsageError
from g4cli.core.files import require_file
from g4cli.core.paths import tiny_dir
from g4cli.core.progress import Progress, no_progress
from g4cli.core.quoting import shell_command
from g4cli.store.adopt import add_local_file, check_name, make_local_name, record_file, store_path
from g4cli.store.manifest import Entry
from g4cli.store.models import list_entries
from g4cli.store.verify import is_intact

_CHECKPOINT_FILES: Final = (".json", ".jinja", ".safetensors")
_SAMPLE_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Pulled:
    """A model of the store, and whether this call made it."""

    entry: Entry
    is_new: bool


@dataclass(frozen=True, slots=True)
class Made:
    """A finished file."""

    path: Path
    type: str
    nbytes: int
    sha256: str


def pull_bundled(
    name: str, type_name: str, *, restart: bool = False, progress: Progress = no_progress
) -> Pulled:
    """Return the bundled model `name` in one type, converted unless it is in the store already.

    `restart` converts it again in any case. Raises UsageError (an unknown type) or NoSpace.
    """
    target = store_path(name, f"{name}-{type_name.upper()}.gguf")
    source = f"bundled@{_stamp(tiny_dir())}"
    if restart:
        target.unlink(missing_ok=True)
    return _pull_checkpoint(tiny_dir(), target, name, type_name, source, progress)


def pull_path(path: Path, *, name: str | None = None, progress: Progress = no_progress) -> Pulled:
    """Return the model made from a local path: a checkpoint folder is converted, a GGUF is linked.

    `name` is the folder's or file's own unless given. Raises FileMissing, UsageError, BadCheckpoint, BadGGUF.
    """
    name = check_name(name) if name else make_local_name(path)
    if not path.is_dir():
        known = {entry.path for entry in list_entries(name)}
        entry = add_local_file(require_file(path), name=name, progress=progress)
        return Pulled(entry, entry.path not in known)
    return pull_folder(path, name=name, progress=progress)


def pull_folder(
    folder: Path, *, name: str, type_name: str = "bf16", progress: Progress = no_progress
) -> Pulled:
    """Return the model made from the checkpoint in `folder`, under `name`."""
    require_checkpoint(folder)
    target = store_path(name, f"{name}-{type_name.upper()}.gguf")
    source = f"file:{folder.resolve()}@{_stamp(folder)}"
    return _pull_checkpoint(folder, target, name, type_name, source, progress)


def _pull_checkpoint(
    folder: Path, target: Path, name: str, type_name: str, source: str, progress: Progress
) -> Pulled:
    for entry in list_entries(name):
        # Another stamp: the checkpoint has changed since, and so would the file.
        if entry.path == target and entry.source == source and is_intact(entry):
            return Pulled(entry, False)
    made = make_from_checkpoint(folder, target, type_name=type_name, progress=progress)
    entry = record_file(target, name=name, source=source, sha256=made.sha256, type_name=type_name)
    return Pulled(entry, True)


def make_from_checkpoint(
    folder: Path, target: Path, *, type_name: str, progress: Progress = no_progress
) -> Made:
    """Return the GGUF made at `target` from the Hugging Face checkpoint in `folder`, in one pass.

    Raises BadCheckpoint, UsageError (an unknown type) or NoSpace; nothing half-written is left.
    """
    from g4cli.store.recode import convert_folder

    done = convert_folder(folder, target, type_name=type_name, force=True, progress=progress)
    return Made(done.path, type_name, done.nbytes, done.sha256)


def make_from_file(
    source: Path, target: Path, *, type_name: str, progress: Progress = no_progress
) -> Made:
    """Return the GGUF made at `target` by quantising the file `source`.

    SFP8 is written as BF16 numbers that are all SFP8 values: llama.cpp runs it as it is.
    """
    from g4cli.quant.file import quantize_file
    from g4cli.quant.recipes import Recipe

    recipe = Recipe(type_name, carrier="bf16") if type_name == "sfp8" else Recipe(type_name)
    done = quantize_file(source, target, recipe=recipe, progress=progress)
    return Made(done.path, type_name, done.nbytes, done.sha256)


def _stamp(folder: Path) -> str:
    """Return 12 characters that change when the checkpoint does: of its small files, sizes and headers.

    The hash covers every file's size and first 256 KiB and, for weights, its last 256 KiB: trained weights
    differ everywhere, so reading all of 60 GB would tell no more.
    """
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in _CHECKPOINT_FILES):
        if not path.is_file():  # a folder, a pipe, a link to nowhere: nothing is read of it
            continue
        with open_inside(path) as file:
            size = file.seek(0, os.SEEK_END)
            digest.update(os.fsencode(f"{path.name} {size}\n"))
            for start in (0, max(0, size - _SAMPLE_BYTES)):
                file.seek(start)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:12]


def require_checkpoint(folder: Path) -> Path:
    """Return `folder` if it looks like a Hugging Face checkpoint, else raise UsageError."""
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"{folder} holds no config.json: not a Hugging Face checkpoint",
            hint=shell_command("ls", folder),
        )
    return folder
