"""Find Gemma 4 files of other programs on this disk. Nothing is changed.

Hugging Face   HUB_CACHE/models--OWNER--REPO/snapshots/COMMIT/FILE.gguf
LM Studio      HOME/models/PUBLISHER/REPO/FILE.gguf
llama.cpp      CACHE/FILE.gguf
Ollama         MODELS/manifests/REGISTRY/NAMESPACE/NAME/TAG -> MODELS/blobs/sha256-HEX
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from g4cli.core.errors import G4Error
from g4cli.core.file_kind import DRAFT, MMPROJ, TEXT, text_key
from g4cli.core.gguf import read_header
from g4cli.core.paths import hub_cache_dir, llama_cpp_dir, lm_studio_dirs, ollama_dirs
from g4cli.store.manifest import Role, role_of, type_of

_MAX_FILES: Final = 500  # a choice: a disk full of models must not make `g4 list` slow
_MAX_PATHS: Final = 10 * _MAX_FILES  # that match a pattern, but need not be files
_MAX_MANIFEST_BYTES: Final = 1 << 20  # a choice: Ollama's have under 1 KiB
# The program, the name that it gives the file, and the file.
_Candidate: TypeAlias = tuple[str, str, Path]
_DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_LAYERS: Final = tuple(f"application/vnd.ollama.image.{kind}" for kind in ("model", "projector"))
_ARCHITECTURES: Final = (TEXT, DRAFT, MMPROJ)
# Prefixes of mmproj tensors. Ollama puts them into the model's file, which llama.cpp refuses.
_PROJECTOR: Final = ("v.", "a.", "mm.")


@dataclass(frozen=True, slots=True)
class ForeignModel:
    """A file of another program. If it is `usable`, commands accept its `path` as MODEL."""

    program: str
    name: str
    type: str
    path: Path
    nbytes: int
    role: Role
    usable: bool
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the row as `g4 list --json` shows it."""
        return {**{k: v for k, v in asdict(self).items() if k != "nbytes"}, "bytes": self.nbytes}


def list_foreign_models() -> tuple[ForeignModel, ...]:
    """Return the Gemma 4 files of other programs, each file once."""
    candidates = chain(_hub_files(), _lm_studio_files(), _llama_cpp_files(), _ollama_files())
    rows, seen = [], set()
    for program, name, path in islice(candidates, _MAX_FILES):
        try:
            # Snapshots of several revisions link to one blob.
            identity = (path.stat().st_dev, path.stat().st_ino)
            if identity not in seen and (row := _describe_file(program, name, path)):
                rows.append(row)
            seen.add(identity)
        except (OSError, G4Error):
            continue  # a partial download, no permission, not a GGUF: it is left out
    return tuple(rows)


def _describe_file(program: str, name: str, path: Path) -> ForeignModel | None:
    header = read_header(path)
    architecture = text_key(header, "general.architecture")
    if architecture not in _ARCHITECTURES:
        return None
    if architecture == MMPROJ and "gemma" not in f"{name} {path}".lower():
        return None
    mixed = architecture == TEXT and any(t.startswith(_PROJECTOR) for t in header.tensors)
    note = "contains its mmproj: only Ollama can load it" if mixed else ""
    return ForeignModel(
        program, name, type_of(header), path, header.file_size, role_of(header), not mixed, note
    )


def _hub_files() -> Iterator[_Candidate]:
    for path in _list_files(hub_cache_dir(), "models--*/snapshots/*/**/*.gguf"):
        folder = path.relative_to(hub_cache_dir()).parts[0]
        repo = folder.removeprefix("models--").replace("--", "/", 1)
        yield "Hugging Face", f"{repo}/{path.name}", path


def _lm_studio_files() -> Iterator[_Candidate]:
    for folder in lm_studio_dirs():
        for path in _list_files(folder, "*/*/*.gguf"):
            yield "LM Studio", path.relative_to(folder).as_posix(), path


def _llama_cpp_files() -> Iterator[_Candidate]:
    for path in _list_files(llama_cpp_dir(), "*.gguf"):
        yield "llama.cpp", path.name, path


def _ollama_files() -> Iterator[_Candidate]:
    for folder in ollama_dirs():
        for manifest in _list_files(folder / "manifests", "*/*/*/*"):
            registry, namespace, name, tag = manifest.relative_to(folder / "manifests").parts
            plain = registry == "registry.ollama.ai" and namespace == "library"
            label = f"{name}:{tag}" if plain else f"{registry}/{namespace}/{name}:{tag}"
            for digest in _read_model_layers(manifest):
                yield "Ollama", label, folder / "blobs" / f"sha256-{digest}"


def _read_model_layers(manifest: Path) -> list[str]:
    """Return the digests of the model layers of an Ollama manifest; none if it is damaged."""
    try:
        with manifest.open("rb") as file:
            layers = json.loads(file.read(_MAX_MANIFEST_BYTES))["layers"]
        wanted = [
            _DIGEST.fullmatch(layer["digest"])
            for layer in layers
            if layer.get("mediaType") in _LAYERS
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
    return [match[1] for match in wanted if match]


def _list_files(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(p for p in islice(folder.glob(pattern), _MAX_PATHS) if p.is_file())
    except OSError:
        return []
