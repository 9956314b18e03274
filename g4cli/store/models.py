"""The models of the store, and which file a MODEL argument means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import BadFile, FileMissing, NotFound, UnknownModel, UsageError
from g4cli.core.file_kind import is_runnable
from g4cli.core.files import is_there, require_file
from g4cli.core.gguf import read_header
from g4cli.core.hub_address import HUB_PREFIX, as_address, is_on_hub, normalize_type, parse_address
from g4cli.core.paths import expand_home, models_dir
from g4cli.core.quoting import shell_command, shell_word
from g4cli.core.registry import MODELS, known_names, looks_like_name, parse_name
from g4cli.store.manifest import Entry, Role, load_entry, manifest_path

_COMMIT: Final = re.compile(r"[0-9a-f]{7,40}")  # the id of a commit, perhaps shortened
_MAX_KEY: Final = 12  # characters of KEY in .FILE.KEY.part (hub/journal.py, Goal.key)
_REGISTRY_ORDER = {model.name: index for index, model in enumerate(MODELS)}


@dataclass(frozen=True, slots=True)
class FoundModel:
    """The file that a MODEL argument means, and why it is that one, in words for the user.

    `entry` is None for a path, also for that of a file in the store.
    """

    path: Path
    reason: str
    entry: Entry | None = None

    @property
    def sha256(self) -> str | None:
        """The file's hash, if its manifest has one and its size has not changed since."""
        if self.entry is None or self.path.stat().st_size != self.entry.nbytes:
            return None
        return self.entry.sha256 or None

    def place_output(self, default: Path) -> Path:
        """Return where a file made from this one goes, if the user does not say.

        That is `default`, a path next to this file. What is made from a model of the store goes
        into the current folder under the same name.
        """
        return Path(default.name) if self.entry else default


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A file whose download was interrupted; `g4 pull` of the same model resumes it.

    `name` is that of the model, `file` the name of the finished file, `path` the partial file.
    `nbytes` is the size of the finished file, of which about `have_bytes` have arrived.
    """

    name: str
    file: str
    path: Path
    have_bytes: int
    nbytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the row as `g4 list --json` shows it."""
        row = asdict(self)
        return {**{k: v for k, v in row.items() if k != "nbytes"}, "bytes": self.nbytes}

    @property
    def resume_command(self) -> str:
        """The command that resumes the download."""
        from g4cli.hub.listing import role_of_name, type_of_name  # loads the whole package hub

        type_name = type_of_name(self.file) if role_of_name(self.file) == "model" else ""
        return shell_command("g4", "pull", f"{self.name}:{type_name}".removesuffix(":"))


def list_unfinished() -> tuple[Unfinished, ...]:
    """Return the partial files of interrupted downloads: .FILE.KEY.part (see hub.journal)."""
    unfinished = []
    for path in sorted(models_dir().glob("*/.*.part")):
        file, _, key = path.name.removeprefix(".").removesuffix(".part").rpartition(".")
        with suppress(FileNotFoundError):  # the download may end just now
            if not file or len(key) > _MAX_KEY or not path.with_suffix(".journal").is_file():
                continue
            status = path.stat()
            # The file is sparse: its allocated size, in units of 512 bytes (stat(3type)), is about
            # what has arrived.
            have_bytes = min(status.st_blocks * 512, status.st_size)
            unfinished.append(
                Unfinished(folder_model_name(path.parent), file, path, have_bytes, status.st_size)
            )
    return tuple(unfinished)


def model_folder(name: str) -> Path:
    """Return the folder of the model `name`: `hf--owner--repo` for `hf:owner/repo`."""
    return models_dir() / name.replace(HUB_PREFIX, "hf--", 1).replace("/", "--")


def folder_model_name(folder: Path) -> str:
    """Return the name of the model whose folder is `folder`: the inverse of model_folder."""
    if folder.name.startswith("hf--"):
        return HUB_PREFIX + folder.name.removeprefix("hf--").replace("--", "/", 1)
    return folder.name


def list_models() -> tuple[Entry, ...]:
    """Return every GGUF of the store, in the order of the registry, then by name.

    Raises UsageError if the store cannot be read.
    """
    root = models_dir()
    try:
        folders = sorted(p for p in root.iterdir() if p.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        folders = []
    except OSError as err:
        raise UsageError(
            f"{root} cannot be read: {err.strerror}", hint="export G4_HOME=FOLDER"
        ) from err
    entries = [entry for folder in folders for entry in _read_entries(folder)]
    last = len(_REGISTRY_ORDER)
    entries.sort(key=lambda e: (_REGISTRY_ORDER.get(e.name, last), e.name, e.role != "model"))
    return tuple(entries)


def list_entries(name: str) -> tuple[Entry, ...]:
    """Return the files of one model: models first."""
    folder = model_folder(name)
    # Names come from users and scripts: they must not lead out of the store.
    if name == ".." or folder.parent != models_dir() or folder_model_name(folder) != name:
        return ()
    return tuple(sorted(_read_entries(folder), key=lambda e: e.role != "model"))


def find_model_file(text: str | Path) -> FoundModel:
    """Return the file that `text` means: a path, a name with or without a type, or an address.

    A name is preferred to a file of that name in the current folder (write ./tiny for the file);
    a path that exists is preferred to the repository OWNER/REPO. Raises FileMissing, UsageError (a
    folder, another web site), NotFound (known, but not pulled) or UnknownModel (with similar
    names).
    """
    if isinstance(text, Path):
        return _find_path(expand_home(text))
    word = as_address(text)
    if is_on_hub(word):
        return _find_pulled_address(word)
    if not looks_like_name(word):
        return _find_path(expand_home(word))
    name, _, type_name = _split_name(word)
    here = [e for e in list_entries(name) if e.role == "model"]
    if here:
        return _choose_entry(name, type_name, here)
    try:
        ref = parse_name(word)
    except UnknownModel as err:
        if is_there(Path(word)):
            return _find_path(Path(word))
        raise _explain_unknown(word, err) from None
    here = [e for e in list_entries(ref.model.name) if e.role == "model"]
    if here:  # asked for by an alias: gemma-4-E2B-it
        return _choose_entry(ref.model.name, ref.type if ref.chosen else "", here)
    name = str(ref) if ref.chosen else ref.model.name
    raise NotFound(f"{name} is not on this disk yet", hint=f"g4 pull {name}")


def find_newest_model() -> FoundModel:
    """Return the Gemma 4 model pulled last, the default of `g4 chat`. Raises NotFound."""
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
    """Return the mmproj or draft model in the store beside the model at `path`, or None."""
    if path.parent.parent != models_dir():
        return None
    here = (e for e in list_entries(folder_model_name(path.parent)) if e.role == role)
    return next((e.path for e in here), None)


def select_unfinished(text: str) -> tuple[Unfinished, ...]:
    """Return the partial files of the model `text`.

    None if `text` names a type: of a partial file the type is not known.
    """
    name, separator, _ = _split_name(text)
    if not list_entries(name):
        with suppress(UnknownModel):  # perhaps the name of a repository or a local model
            name = parse_name(name).model.name
    return () if separator else tuple(u for u in list_unfinished() if u.name == name)


def select_entries(text: str) -> tuple[Entry, ...]:
    """Return the entries that `text` names: `e2b:q4_0`, `e2b:mmproj`, or all files of `e2b`.

    Raises UsageError for a path, NotFound or UnknownModel.
    """
    text = as_address(text)
    if not is_on_hub(text) and not looks_like_name(text):
        raise UsageError(
            f"{text} is a path; models of the store are named, as in g4 list", hint="g4 list"
        )
    file = ""
    if is_on_hub(text):
        repo, file, type_name, _ = parse_address(text)
        name, separator = f"{HUB_PREFIX}{repo}", ":" if type_name else ""
    else:
        name, separator, type_name = _split_name(text)
    entries = tuple(e for e in list_entries(name) if not file or e.is_of_file(file))
    if not entries and not is_on_hub(text):  # perhaps an alias
        ref = parse_name(text)
        entries = list_entries(ref.model.name)
        separator, type_name = ":" if ref.chosen else "", ref.type
    if separator:
        # A model and its parts are named by their type, sidecars by their role.
        entries = tuple(
            e for e in entries if type_name == (e.type if e.role in ("model", "part") else e.role)
        )
    if not entries:
        raise NotFound(f"{text} is not in the store", hint="g4 list")
    return entries


def select_removable(text: str) -> tuple[tuple[Entry, ...], tuple[Unfinished, ...]]:
    """Return the entries and the partial files that `g4 remove text` deletes.

    Raises what select_entries raises, unless the model has partial files and no others.
    """
    text = as_address(text)
    unfinished = select_unfinished(text)
    if unfinished and not list_entries(unfinished[0].name):
        return (), unfinished
    return select_entries(text), unfinished


def remove_entry(entry: Entry | Unfinished) -> None:
    """Delete the file of `entry` with its manifest or journal, and the folder if it is empty then.

    Raises UsageError if the system refuses, or if the file is being downloaded.
    """
    if isinstance(entry, Entry):
        _remove_files(entry.path, manifest_path(entry.path))
        return
    from g4cli.hub.lock import hold_lock  # loads the whole package hub

    def refuse() -> None:
        raise UsageError(
            f"another g4 process is downloading {entry.file}",
            hint="wait for it, or stop it with Ctrl-C",
        )

    with hold_lock(entry.path.with_name(entry.file), on_wait=refuse):
        _remove_files(entry.path, entry.path.with_suffix(".journal"))


def _remove_files(*paths: Path) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as err:
            raise UsageError(
                f"{path} cannot be removed: {err.strerror}", hint=shell_command("ls", "-l", path)
            ) from err
    if not any(paths[0].parent.iterdir()):
        paths[0].parent.rmdir()


def _read_entries(folder: Path) -> Iterator[Entry]:
    # A local file may have any name, such as those of Ollama's files, and has a manifest then.
    for path in sorted(folder.glob("*")) if is_there(folder) else ():
        if path.suffix.lower() != ".gguf" and not manifest_path(path).is_file():
            continue
        try:
            yield load_entry(path, folder_model_name(folder))
        except (BadFile, FileMissing, UsageError):
            # Not a GGUF; `g4 doctor FILE` explains why.
            continue


def _split_name(word: str) -> tuple[str, str, str]:
    """Return name, colon and type of `e2b:q4_0` or `hf:owner/repo:q4_0`; the last two may be "".

    The type, and the name of a model that is not from the hub, are written as the store has them.
    """
    prefix = HUB_PREFIX if is_on_hub(word) else ""
    name, separator, type_name = word.removeprefix(prefix).partition(":")
    return prefix + (name if prefix else name.lower()), separator, normalize_type(type_name)


def _choose_entry(name: str, type_name: str, here: list[Entry]) -> FoundModel:
    """Return the file of `here`, models called `name`, that has the type `type_name` ("": any).

    Raises NotFound, or UsageError if no model of that name can have the type.
    """
    if type_name:
        for entry in here:
            if entry.type == type_name:
                return FoundModel(entry.path, f"{entry.label} as asked", entry)
        held = " ".join(e.label for e in here)
        hint = shell_command("g4", "pull", f"{name}:{type_name}")
        if not is_on_hub(name):
            try:
                parse_name(f"{name}:{type_name}")
            except UnknownModel:  # a local model: no other type of it can be pulled
                hint = f"one of: {held}"
        raise NotFound(f"{name}:{type_name} is not in the store (there is {held})", hint=hint)
    # Without a type: the only one, else the model's default type, else the newest.
    if len(here) == 1:
        return FoundModel(here[0].path, f"{here[0].label}: the only one here", here[0])
    default = ""
    with suppress(UnknownModel):
        default = parse_name(name).type
    for entry in here:
        if entry.type == default:
            return FoundModel(entry.path, f"{entry.label}: the usual type", entry)
    last = max(here, key=lambda e: e.date)
    return FoundModel(last.path, f"{last.label}: the newest of {len(here)}", last)


def _find_pulled_address(address: str) -> FoundModel:
    """Return the file that was pulled from `address`, hf:OWNER/REPO[/FILE][:TYPE][@REVISION].

    Only a revision that is a commit counts: which commit a branch names, only the hub knows.
    """
    repo, path, type_name, revision = parse_address(address)
    name = f"{HUB_PREFIX}{repo}"
    here = [e for e in list_entries(name) if e.role == "model"]
    if path:
        here = [e for e in here if e.is_of_file(path)]
    if revision and _COMMIT.fullmatch(revision):
        here = [e for e in here if e.is_of_revision(revision)]
    if not here:
        raise NotFound(
            f"{address} is not on this disk yet", hint=shell_command("g4", "pull", address)
        )
    return _choose_entry(name, type_name, here)


def _find_path(path: Path) -> FoundModel:
    """Return the file at `path`. Raises FileMissing, with a file beside it of a similar name."""
    try:
        return FoundModel(require_file(path), "a path")
    except FileMissing as err:
        names = {}
        with suppress(OSError, ValueError):
            names = {p.stem: p.name for p in path.parent.iterdir() if p.is_file()}
        near = get_close_matches(path.stem, names, n=1, cutoff=0.7)
        hint = f"did you mean {shell_word(path.with_name(names[near[0]]))}?" if near else "g4 list"
        raise FileMissing(path, hint=hint) from err


def _explain_unknown(word: str, err: UnknownModel) -> UnknownModel:
    """Return `err`, or an error with the name of a model of the user's own that is like `word`."""
    own = sorted({e.name for e in list_models()} - set(known_names()))
    near = get_close_matches(word.lower(), own, n=1, cutoff=0.5)
    if not near:
        return err
    return UnknownModel(f"no model is called {word!r}; did you mean {near[0]}?", hint="g4 list")
