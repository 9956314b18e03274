"""Plan what `g4 pull` will do, before anything is written.

tiny                           converted from the checkpoint inside the package
a path                         a GGUF is linked, a checkpoint folder converted
e2b:q4_0                       the published file, with its mmproj
e2b:sfp8                       not published: quantized from a published BF16 file, or converted
                               from Google's checkpoint
hf:REPO[/FILE][:TYPE][@REV]    a file of that repository, or its checkpoint converted
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

from g4cli.core.errors import NetworkError, NotFound, UnknownModel, UsageError
from g4cli.core.files import is_folder
from g4cli.core.hub_address import HUB_PREFIX, as_address, is_on_hub, parse_address
from g4cli.core.paths import cache_dir, expand_home
from g4cli.core.quoting import shell_command
from g4cli.core.registry import Model, ModelRef, looks_like_name, parse_name
from g4cli.core.split_name import list_parts
from g4cli.hub import RemoteFile, Repository
from g4cli.hub.listing import (
    PREFERENCE,
    checkpoint_files,
    parts_of,
    pick_draft,
    pick_mmproj,
    pick_model,
    preferred_type,
    select_role,
    type_of_name,
)
from g4cli.operations.pull.facts import PullFacts
from g4cli.quant.recipes import file_type
from g4cli.store.adopt import store_path
from g4cli.store.manifest import Entry

PullKind: TypeAlias = Literal["keep", "bundled", "local", "fetch", "convert", "quantize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullOptions:
    """The options of `g4 pull`. The defaults are those of the command line.

    `name` is the name in the store for a local file or folder (None: its own name). `offline` uses
    no network; `no_update` uses it only if the model is not on this disk; `restart` discards what
    was downloaded or made before. `mmproj` and `draft` request these files with the model.
    """

    name: str | None = None
    offline: bool = False
    no_update: bool = False
    restart: bool = False
    mmproj: bool = True
    draft: bool = False


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file on the hub and its target path; `known` is set if the target is already that file.

    `type_name` is recorded as its type; if it is "", the type is taken from the file's header. For
    the files of a checkpoint, which are no models of the store, it has no meaning.
    """

    repository: Repository
    file: RemoteFile
    target: Path
    type_name: str = ""
    known: Entry | None = None


@dataclass(frozen=True, slots=True)
class PullPlan:
    """How to get a model onto this disk: a value, nothing has been done yet.

    kind        what happens                                     which fields are used
    keep        the model is on this disk                        entry, sidecars
    bundled     the checkpoint of the package is converted       name, type
    local       a path is linked or converted                    path; name, "" for its own
    fetch       files are downloaded                             files, sidecars
    convert     a checkpoint is downloaded (files), converted    target, type, origin
    quantize    another plan (source) is run, its file quantized target, type

    `files` are the parts of one model, or those of a checkpoint. `reasons` explain the choice to
    the user. `origin` is recorded as the source of a converted file. `restart` discards what an
    earlier run has left.
    """

    kind: PullKind
    name: str = ""
    type: str = ""
    reasons: tuple[str, ...] = ()
    files: tuple[PlannedFile, ...] = ()
    sidecars: tuple[PlannedFile, ...] = ()
    target: Path | None = None
    origin: str = ""
    path: Path | None = None
    entry: Entry | None = None
    source: PullPlan | None = None
    restart: bool = False

    @property
    def label(self) -> str:
        """The name shown with progress, such as `e2b:q4_0`."""
        return str(self.path) if self.path else f"{self.name}:{self.type}".removesuffix(":")


def plan_pull(text: str, options: PullOptions, facts: PullFacts) -> PullPlan:
    """Return the plan to get the model that `text` names onto this disk.

    Raises UnknownModel, UsageError, NotFound, NetworkError or BadFile.
    """
    address = as_address(text)
    planner = _Planner(options, facts)
    if is_on_hub(address):
        return planner.plan_address(*parse_address(address))
    if not looks_like_name(text) or text in (".", "..") or _is_folder(text):
        path = expand_home(text)
        return PullPlan("local", options.name or "", path=path, restart=options.restart)
    if options.name:
        raise UsageError(
            "--name is for local folders and files", hint=shell_command("g4", "pull", text)
        )
    ref = parse_name(text)
    if ref.model.is_bundled:
        return PullPlan("bundled", ref.model.name, ref.type, restart=options.restart)
    return planner.plan_known_model(ref)


def plan_checkpoint(address: str, facts: PullFacts) -> tuple[PlannedFile, ...]:
    """Return the files of the checkpoint at hf:OWNER/REPO[@REVISION], with their target paths.

    Raises UsageError, NotFound, NetworkError or BadFile.
    """
    repo, path, type_name, revision = parse_address(address)
    if path or type_name:
        raise UsageError(
            f"{address}: a checkpoint is a whole repository",
            hint=shell_command("g4", "convert", f"{HUB_PREFIX}{repo}"),
        )
    return _list_checkpoint_files(facts.list_repository(repo, revision))


@dataclass(frozen=True, slots=True)
class _Planner:
    """Makes the plan of one pull; `notes`, sentences for the user, become its reasons."""

    options: PullOptions
    facts: PullFacts
    notes: list[str] = field(default_factory=list)

    def plan_known_model(self, ref: ModelRef) -> PullPlan:
        """Return the plan for a model of the registry."""
        name, model = ref.model.name, ref.model
        here = self._find_intact(name, ref.type)
        if here and self._may_keep:
            return _plan_nothing(here)
        published = model.find_published(ref.type)
        try:
            if published is None:
                if here is None:
                    return self._plan_made(ref)
                # Not compared with the hub: to make it again takes a download of several times its
                # size, for weights that their publishers do not change. --restart does it.
                sidecars = self._plan_sidecars(name, model)
                return replace(_plan_nothing(here), sidecars=tuple(sidecars))
            repository = self.facts.list_repository(published.repo)
        except NetworkError as err:
            if not here:
                raise
            return _plan_nothing(
                here, f"cannot look for other files ({err.message}); the one on this disk is used"
            )
        if published.is_qat:
            self.notes.append(f"{ref}: Google's quantization-aware training, from {published.repo}")
        return self._plan_fetch(repository, name, ref.type, model)

    def plan_address(self, repo: str, path: str, type_name: str, revision: str | None) -> PullPlan:
        """Return the plan for a file, a type or the checkpoint of a repository."""
        name = f"{HUB_PREFIX}{repo}"
        here = self._find_intact(name, type_name, path, revision or "")
        if here and self._may_keep:
            return _plan_nothing(here)
        repository = self.facts.list_repository(repo, revision)
        if path:
            named = repository.find_file(path, f"https://huggingface.co/{repo}/tree/main")
            parts = parts_of(repo, repository.files, named)
            # As a pull by type calls it. The headers of later parts do not say the type.
            named_type = type_of_name(path)
            return self._make_fetch_plan(
                name, "", [self._plan_file(name, repository, f, named_type) for f in parts]
            )
        if not select_role(repository.files, "model"):
            return self._plan_checkpoint_of(repository, type_name or "bf16")
        if not type_name:
            type_name = preferred_type(repository.files)
            if type_name in PREFERENCE:
                why = f"type {type_name}: the first in g4's order of preference that {repo} has"
            elif type_name:
                why = f"type {type_name}: {repo} has none in g4's order of preference"
            else:
                why = f"no file name of {repo} says its type: the shortest one is taken"
            self.notes.append(why)
        return self._plan_fetch(repository, name, type_name)

    def _plan_made(self, ref: ModelRef) -> PullPlan:
        """Return the plan for an unpublished type: made from BF16, or else from the checkpoint."""
        name, model = ref.model.name, ref.model
        target = store_path(name, f"{name}-{ref.type.upper()}.gguf")
        from_type = model.find_published("bf16") is not None
        made_from = f"{name}:bf16" if from_type else model.checkpoint
        reason = f"{ref} is not published: it is made on this machine from {made_from}"
        if from_type:
            source = self.plan_known_model(replace(ref, type="bf16"))
            return PullPlan("quantize", name, ref.type, (reason,), target=target, source=source)
        repository = self.facts.list_repository(model.checkpoint)
        origin = f"made from {HUB_PREFIX}{model.checkpoint}@{repository.commit}"
        return self._plan_conversion(repository, name, ref.type, target, origin, reason)

    def _plan_checkpoint_of(self, repository: Repository, type_name: str) -> PullPlan:
        """Return the plan to convert the checkpoint of a repository that holds no GGUF."""
        repo = repository.repo
        if not any(f.path == "config.json" for f in repository.files):
            raise NotFound(
                f"{repo} holds no GGUF and no checkpoint",
                hint=f"https://huggingface.co/{repo}/tree/main",
            )
        name, type_name = f"{HUB_PREFIX}{repo}", file_type(type_name).name
        origin = f"made from {name}@{repository.commit}"
        here = self._find_intact(name, type_name)
        if here and here.source == origin:
            return _plan_nothing(here)
        target = store_path(name, f"{repo.rsplit('/', 1)[-1]}-{type_name.upper()}.gguf")
        reason = f"{repo} holds no GGUF: its checkpoint is converted to {type_name}"
        return self._plan_conversion(repository, name, type_name, target, origin, reason)

    def _plan_conversion(
        self,
        repository: Repository,
        name: str,
        type_name: str,
        target: Path,
        origin: str,
        reason: str,
    ) -> PullPlan:
        return PullPlan(
            "convert",
            name,
            type_name,
            (reason,),
            _list_checkpoint_files(repository),
            target=target,
            origin=origin,
            restart=self.options.restart,
        )

    def _plan_fetch(
        self, repository: Repository, name: str, type_name: str, model: Model | None = None
    ) -> PullPlan:
        """Return the plan to download one type of a repository and the requested sidecars."""
        parts = pick_model(repository.repo, repository.files, type_name)
        files = [self._plan_file(name, repository, part, type_name) for part in parts]
        return self._make_fetch_plan(
            name, type_name, files, self._plan_sidecars(name, model, repository)
        )

    def _make_fetch_plan(
        self,
        name: str,
        type_name: str,
        files: Sequence[PlannedFile],
        sidecars: Sequence[PlannedFile] = (),
    ) -> PullPlan:
        return PullPlan(
            "fetch",
            name,
            type_name,
            tuple(self.notes),
            tuple(files),
            tuple(sidecars),
            restart=self.options.restart,
        )

    def _plan_file(
        self, name: str, repository: Repository, file: RemoteFile, type_name: str = ""
    ) -> PlannedFile:
        """Return the target path of `file`, and whether it must be downloaded (again).

        Files of the same name in two folders of the repository become FOLDER--NAME in the store.
        """
        entries = self.facts.list_entries(name)
        is_unique = [f.name for f in repository.files].count(file.name) == 1
        target = store_path(name, file.name if is_unique else file.path.replace("/", "--"))
        target = next((e.path for e in entries if e.is_of_file(file.path)), target)
        planned = PlannedFile(repository, file, target, type_name)
        known = next((e for e in entries if e.path == target), None)
        if known is None or self.options.restart:
            return planned
        # A file outside of Git LFS has no sha256 on the hub, and counts as changed.
        if not file.sha256 or (known.sha256, known.nbytes) != (file.sha256, file.nbytes):
            self.notes.append(f"{known.label} is newer on the hub: it is downloaded again")
        elif self.facts.is_intact(known):
            return replace(planned, known=known)
        else:
            self.notes.append(f"{known.label} has changed on this disk: it is downloaded again")
        return planned

    def _plan_sidecars(
        self, name: str, model: Model | None, repository: Repository | None = None
    ) -> list[PlannedFile]:
        """Return the requested sidecars that are not on this disk: mmproj and draft model.

        They come from the model's repository, or else from those that the registry names.
        """
        roles = {e.role for e in self.facts.list_entries(name)}
        sidecars = []
        for is_wanted, role, choose, published in (
            (self.options.mmproj, "mmproj", pick_mmproj, model.mmproj if model else ()),
            (self.options.draft, "draft", pick_draft, model.drafts if model else ()),
        ):
            if not is_wanted or role in roles:
                continue
            holder, file = repository, choose(repository.files) if repository else None
            for row in published:
                if file is None and (repository is None or row.repo != repository.repo):
                    holder = self.facts.list_repository(row.repo)
                    file = choose(holder.files)
            if holder and file:
                sidecars.append(self._plan_file(name, holder, file))
        return sidecars

    @property
    def _may_keep(self) -> bool:
        """Whether a file on this disk is used without asking the hub for a newer one."""
        return self.options.no_update or self.options.offline

    def _find_intact(
        self, name: str, type_name: str, path: str = "", revision: str = ""
    ) -> Entry | None:
        """Return the model on this disk that is asked for, if it is whole; "" stands for any.

        With `restart` none is: nothing that is here counts.
        """
        if self.options.restart:
            return None
        entries = {entry.path.name: entry for entry in self.facts.list_entries(name)}
        for entry in entries.values():
            is_asked_for = (
                entry.role == "model"
                and type_name in ("", entry.type)
                and (not path or entry.is_of_file(path))
                and entry.is_of_revision(revision)
            )
            if is_asked_for and all(
                part in entries and self.facts.is_intact(entries[part])
                for part in list_parts(entry.path.name)
            ):
                return entry
        return None


def _plan_nothing(entry: Entry, *reasons: str) -> PullPlan:
    return PullPlan("keep", entry.name, entry.type, reasons, entry=entry)


def _list_checkpoint_files(repository: Repository) -> tuple[PlannedFile, ...]:
    """Return the files of a checkpoint, with target paths in g4's cache."""
    folder = cache_dir() / "checkpoints" / repository.repo.replace("/", "--")
    return tuple(
        PlannedFile(repository, file, folder / repository.commit[:12] / file.name)
        for file in checkpoint_files(repository.repo, repository.files)
    )


def _is_folder(text: str) -> bool:
    """Return whether `text` is a folder and not the name of a model: "./" may be omitted."""
    try:
        parse_name(text)
    except UnknownModel:
        return is_folder(Path(text))
    return False
