"""Names to paths: what the store holds, and which file a MODEL argument means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from g4cli.core.errors import BadFile, FileMissing, NotFound, UnknownModel, UsageError
from g4cli.core.file_kind import is_runnable
from g4cli.core.files import is_there, require_file
from g4cli.core.gguf import read_header
from g4cli.core.hub_name import HUB_PREFIX, is_on_hub
from g4cli.core.paths import models_dir
from g4cli.core.quoting import shell_command, shell_word
from g4cli.core.registry import MODELS, ModelRef, known_names, looks_like_name, parse_name
from g4cli.store.manifest import Entry, Role, load_entry, manifest_path

_ORDER = {model.name: index for index, model in enumerate(MODELS)}


@dataclass(frozen=True, slots=True)
class FoundModel:
    """The file that a MODEL argument means, and why this one; `entry` is None for a plain path."""

    path: Path
    reason: str
    entry: Entry | None = None

    @property
    def sha256(self) -> str | None:
        """Return the file's hash if its manifest knows it and the file has not changed in size since."""
        known = self.entry is not None and self.path.stat().st_size == self.entry.nbytes
        return self.entry.sha256 or None if self.entry is not None and known else None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A file that has not arrived whole: the same `g4 pull` goes on with it."""

    name: str
    file: str
    path: Path
    have_bytes: int
    nbytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the row as `g4 list --json` shows it."""
        row = asdict(self)
        return {**{k: v for k, v in row.items() if k != "nbytes"}, "bytes": self.nbytes}


def list_unfinished() -> tuple[Unfinished, ...]:
    """Return what interrupted pulls have left, by the names that g4cli.hub.journal gives: .FILE.KEY.part."""
    found = []
    for path in sorted(models_dir().glob("*/.*.part")):
        file, _, key = path.name.removeprefix(".").removesuffix(".part").rpartition(".")
        if file and len(key) <= 12 and path.with_suffix(".journal").is_file():
            status = path.stat()
            # Sparse: what is allocated has arrived, nearly.
            have = min(status.st_blocks * 512, status.st_size)
            found.append(
                Unfinished(folder_model_name(path.parent), file, path, have, status.st_size)
            )
    return tuple(found)


def model_folder(name: str) -> Path:
    """Return the folder of the model `name`: `hf:owner/repo` lies in `hf--owner--repo`."""
    return models_dir() / name.replace(HUB_PREFIX, "hf--", 1).replace("/", "--")


def folder_model_name(folder: Path) -> str:
    """Return the model that `folder` holds; undoes `folder_of`."""
    if folder.name.startswith("hf--"):
        return HUB_PREFIX + folder.name.removeprefix("hf--").replace("--", "/", 1)
    return folder.name


def list_models() -> tuple[Entry, ...]:
    """Return every file of the store, in the order of the registry, then by name; bad files are left out."""
    root = models_dir()
    folders = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    entries = [entry for folder in folders for entry in _entries_in(folder)]
    entries.sort(key=lambda e: (_ORDER.get(e.name, len(_ORDER)), e.name, e.role != "model"))
    return tuple(entries)


def list_entries(name: str) -> tuple[Entry, ...]:
    """Return the files of one model: models first."""
    folder = model_folder(name)
    if name == ".." or folder.parent != models_dir() or folder_model_name(folder) != name:
        return ()
    return tuple(sorted(_entries_in(folder), key=lambda e: e.role != "model"))


def find_model_path(text: str | Path) -> Path:
    """Return the file that a MODEL argument means. Raises as `find`."""
    return find_model_file(text).path


def find_model_file(text: str | Path) -> FoundModel:
    """Return the file that `text` means: a path, or a name with or without a type.

    A name wins over a file of the same name in this folder (write ./tiny for the file). Raises FileMissing,
    UsageError (a directory), NotFound (known, but not pulled) or UnknownModel (with the nearest names).
    """
    word = str(text)
    if isinstance(text, Path) or not (is_on_hub(word) or looks_like_name(word)):
        return FoundModel(_existing(Path(word).expanduser()), "a path")
    name, _, type_name = _split(word)
    here = [e for e in list_entries(name) if e.role == "model"]
    if here:
        return _choose(name, type_name, here)
    if is_on_hub(word):
        raise NotFound(f"{word} is not on this disk yet", hint=shell_command("g4", "pull", word))
    try:
        ref = parse_name(word)
    except UnknownModel as err:
        if is_there(Path(word)):
            return FoundModel(_existing(Path(word)), "a path")
        raise _unknown(word, err) from None
    return _pulled(ref)


def find_newest_model() -> FoundModel:
    """Return the model pulled last, for a command without MODEL. Raises NotFound if there is none."""
    here = [e for e in list_models() if e.role == "model"]
    if not here:
        raise NotFound("no model is on this disk yet", hint="g4 pull tiny, or g4 pull e2b")
    by_date = sorted(here, key=lambda e: e.date, reverse=True)
    entry = next((e for e in by_date if _is_runnable(e.path)), None)
    if entry is None:
        raise NotFound("no Gemma 4 model is on this disk yet", hint="g4 pull tiny, or g4 pull e2b")
    reason = "the only one here" if len(here) == 1 else f"pulled last, of {len(here)} here"
    return FoundModel(entry.path, f"{entry.label}: {reason}", entry)


def _is_runnable(path: Path) -> bool:
    try:
        return is_runnable(read_header(path))
    except (BadFile, FileMissing, UsageError):
        return False


def find_sidecar(path: Path, role: Role) -> Path | None:
    """Return the projector ("mmproj") or the draft that lies beside a model of the store, or None."""
    if path.parent.parent != models_dir():
        return None
    here = (e for e in list_entries(folder_model_name(path.parent)) if e.role == role)
    return next((e.path for e in here), None)


def select_unfinished(text: str) -> tuple[Unfinished, ...]:
    """Return the partial files of the model `text`; none for a name with a type."""
    name, separator, _ = _split(text)
    return () if separator else tuple(u for u in list_unfinished() if u.name == name)


def select_entries(text: str) -> tuple[Entry, ...]:
    """Return the entries that `remove` and `verify` act on: `e2b:q4_0`, `e2b:mmproj`, or all files of `e2b`.

    Raises UsageError for a path, NotFound or UnknownModel.
    """
    if not is_on_hub(text) and not looks_like_name(text):
        raise UsageError(f"{text} is a path; the store knows models by name", hint="g4 list")
    name, separator, type_name = _split(text)
    entries = list_entries(name)
    if not entries:
        if is_on_hub(text):
            raise NotFound(f"{text} is not in the store", hint="g4 list")
        ref = parse_name(text)
        entries = list_entries(ref.model.name)
        name, separator, type_name = ref.model.name, ":" if ref.chosen else "", ref.type
    if separator:
        # A model and its parts go by their type, what lies beside them by its use.
        entries = tuple(
            e for e in entries if type_name == (e.type if e.role in ("model", "part") else e.role)
        )
    if not entries:
        raise NotFound(f"{text} is not in the store", hint="g4 list")
    return entries


def remove_entry(entry: Entry | Unfinished) -> None:
    """Delete the file of `entry` and what describes it, and the folder if it is empty then."""
    beside = (
        manifest_path(entry.path)
        if isinstance(entry, Entry)
        else entry.path.with_suffix(".journal")
    )
    for path in (entry.path, beside):
        try:
            path.unlink(missing_ok=True)
        except OSError as err:
            raise UsageError(
                f"{path} cannot be removed: {err.strerror}", hint=shell_command("ls", "-l", path)
            ) from err
    if not any(entry.path.parent.iterdir()):
        entry.path.parent.rmdir()


def _entries_in(folder: Path) -> Iterator[Entry]:
    for path in sorted(folder.glob("*.gguf")):
        try:
            yield load_entry(path, folder_model_name(folder))
        except (BadFile, FileMissing, UsageError):
            # Not a GGUF at all: `g4 doctor FILE` is for those.
            continue


def _split(word: str) -> tuple[str, str, str]:
    """Return name, colon and type of `e2b:q4_0` or `hf:owner/repo:q4_0`, in the store's spelling."""
    prefix = HUB_PREFIX if is_on_hub(word) else ""
    name, separator, type_name = word.removeprefix(prefix).partition(":")
    return (
        prefix + (name if prefix else name.lower()),
        separator,
        type_name.lower().replace("-", "_"),
    )


def _choose(name: str, type_name: str, here: list[Entry]) -> FoundModel:
    if type_name:
        for entry in here:
            if entry.type == type_name:
                return FoundModel(entry.path, f"{entry.label} as asked", entry)
        try:
            ref: ModelRef | None = parse_name(f"{name}:{type_name}")
        except UnknownModel:
            ref = None
        held = " ".join(e.label for e in here)
        hint = shell_command("g4", "pull", str(ref)) if ref else f"one of: {held}"
        raise NotFound(f"{name}:{type_name} is not in the store (there is {held})", hint=hint)
    if len(here) == 1:
        return FoundModel(here[0].path, f"{here[0].label}: the only one here", here[0])
    try:
        default = parse_name(name).type
    except UnknownModel:
        default = ""
    for entry in here:
        if entry.type == default:
            return FoundModel(entry.path, f"{entry.label}: the usual type", entry)
    last = max(here, key=lambda e: e.date)
    return FoundModel(last.path, f"{last.label}: the newest of {len(here)}", last)


def _pulled(ref: ModelRef) -> FoundModel:
    here = [e for e in list_entries(ref.model.name) if e.role == "model"]
    if here:  # asked for by an alias: gemma-4-E2B-it
        return _choose(ref.model.name, ref.type if ref.chosen else "", here)
    name = str(ref) if ref.chosen else ref.model.name
    raise NotFound(f"{name} is not on this disk yet", hint=f"g4 pull {name}")


def _existing(path: Path) -> Path:
    try:
        return require_file(path)
    except FileMissing as err:
        near = _neighbours(path)
        if near:
            raise FileMissing(path, hint=f"did you mean {shell_word(near[0])}?") from None
        raise err


def _neighbours(path: Path) -> list[str]:
    try:
        names = {p.stem: p.name for p in path.parent.iterdir() if p.is_file()}
    except (OSError, ValueError):
        return []
    return [
        str(path.with_name(names[n])) for n in get_close_matches(path.stem, names, n=1, cutoff=0.7)
    ]


def _unknown(word: str, err: UnknownModel) -> UnknownModel:
    own = sorted({e.name for e in list_models()} - set(known_names()))
    near = get_close_matches(word.lower(), own, n=1, cutoff=0.5)
    return (
        UnknownModel(f"no model is called {word!r}; did you mean {near[0]}?", hint="g4 list")
        if near
        else err
    )
