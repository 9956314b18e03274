"""The steps of `g4 pull`: where a model comes from, what is fetched, what is made. Draws nothing.

tiny            made from the bundled checkpoint
a path          linked or converted (store.make)
e2b:q4_0        the published file, with its mmproj
e2b:sfp8        no published file: made from a published BF16, or from Google's checkpoint
hf:REPO[/FILE][:TYPE][@REV]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from g4cli.core.progress import Progress
    from g4cli.core.registry import Model, ModelRef
    from g4cli.hub import Fetched, Hub, RemoteFile, Repository
    from g4cli.store.make import Pulled
    from g4cli.store.manifest import Entry


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for, beside the name."""

    name: str | None = None
    offline: bool = False
    no_update: bool = False
    restart: bool = False
    mmproj: bool = True
    draft: bool = False


@dataclass(frozen=True, slots=True)
class Puller:
    """One run of `g4 pull`. `notice` tells the user what happens; `progress` is the bar."""

    wish: Wish
    hub: Hub
    progress: Progress
    notice: Callable[[str], None]

    def pull(self, text: str) -> Pulled:
        """Return the model that `text` means, on this disk. Raises every error of the tree but runtime's."""
        from g4cli.core.errors import UsageError
        from g4cli.core.quoting import shell_command
        from g4cli.core.registry import looks_like_name, parse_name
        from g4cli.hub.address import HUB_PREFIX, as_address, parse_address
        from g4cli.store.make import pull_bundled, pull_path

        text = as_address(text)
        if text.startswith(HUB_PREFIX):
            return self._from_address(*parse_address(text))
        if not looks_like_name(text) or text in (".", "..") or self._is_folder(text):
            return pull_path(
                Path(text).expanduser(), name=self.wish.name, progress=self._named(text)
            )
        if self.wish.name:
            raise UsageError(
                "--name is for local folders and files", hint=shell_command("g4", "pull", text)
            )
        ref = parse_name(text)
        if ref.model.is_bundled:
            return pull_bundled(ref, restart=self.wish.restart, progress=self._named(str(ref)))
        return self._known(ref)

    @staticmethod
    def _is_folder(text: str) -> bool:
        """Return whether `text` is a folder here and no model's name: ./ before it may be left away."""
        from g4cli.core.errors import UnknownModel
        from g4cli.core.registry import parse_name

        try:
            parse_name(text)
        except UnknownModel:
            return Path(text).is_dir()
        return False

    def _known(self, ref: ModelRef) -> Pulled:
        from g4cli.core.errors import NetworkError
        from g4cli.store.make import Pulled

        here = self._here(ref.model.name, ref.type)
        if here and (self.wish.no_update or self.wish.offline) and not self.wish.restart:
            return Pulled(here, False)
        published = ref.model.find_published(ref.type)
        if published is None:
            return Pulled(here, False) if here and not self.wish.restart else self._made(ref)
        try:
            repository = self._repository(published.repo)
        except NetworkError as err:
            if not here:
                raise
            self.notice(f"cannot look for a newer file ({err.message}); the one here is used")
            return Pulled(here, False)
        if published.note:
            self.notice(f"{ref}: {published.note}, from {published.repo}")
        return self._fetch_type(repository, ref.model.name, ref.type, ref.model)

    def _made(self, ref: ModelRef) -> Pulled:
        """Return a type that nobody publishes, made from the best source that somebody does."""
        from g4cli.store.adopt import place_for, record
        from g4cli.store.make import Pulled, from_checkpoint, from_file

        name, model = ref.model.name, ref.model
        target = place_for(name, f"{name}-{ref.type.upper()}.gguf")
        if model.find_published("bf16"):
            self.notice(f"{ref} is published nowhere: it is made here from {name}:bf16")
            source = self._known(replace(ref, type="bf16")).entry
            made = from_file(
                source.path, target, type_name=ref.type, progress=self._named(f"make {ref}")
            )
            origin = f"made from {source.source}"
            self.notice(f"{source.label} stays too; g4 remove {source.label} frees its space")
        else:
            self.notice(f"{ref} is published nowhere: it is made here from {model.checkpoint}")
            folder = self._checkpoint(model.checkpoint)
            making = self._named(f"make {ref}")
            made = from_checkpoint(folder, target, type_name=ref.type, progress=making)
            origin = f"made from hf:{model.checkpoint}"
        entry = record(made.path, name=name, source=origin, sha256=made.sha256, type_name=ref.type)
        return Pulled(entry, True)

    def _from_address(self, repo: str, path: str, type_name: str, revision: str | None) -> Pulled:
        from g4cli.core.errors import NotFound
        from g4cli.hub.listing import of_role, parts_of, preferred_type
        from g4cli.store.make import Pulled

        here = self._here(f"hf:{repo}", type_name, path.rsplit("/", 1)[-1])
        if here and (self.wish.no_update or self.wish.offline) and not self.wish.restart:
            return Pulled(here, False)
        repository = self._repository(repo, revision)
        if path:
            found = next((f for f in repository.files if f.path == path), None)
            if found is None:
                raise NotFound(
                    f"{repo} has no file {path}", hint=f"https://huggingface.co/{repo}/tree/main"
                )
            parts = parts_of(repo, repository.files, found)
            return self._fetch(f"hf:{repo}", [(repository, part, "") for part in parts])
        if not of_role(repository.files, "model"):
            return self._from_checkpoint_repository(repository, type_name or "bf16")
        if not type_name:
            type_name = preferred_type(repository.files)
            self.notice(f"type {type_name or 'unnamed'}: the first of g4's order that {repo} has")
        return self._fetch_type(repository, f"hf:{repo}", type_name)

    def _from_checkpoint_repository(self, repository: Repository, type_name: str) -> Pulled:
        from g4cli.core.errors import NotFound
        from g4cli.store.adopt import place_for, record
        from g4cli.store.make import Pulled, from_checkpoint

        repo = repository.repo
        if not any(f.path == "config.json" for f in repository.files):
            raise NotFound(
                f"{repo} holds no GGUF and no checkpoint",
                hint=f"https://huggingface.co/{repo}/tree/main",
            )
        self.notice(f"{repo} holds no GGUF: its checkpoint is converted to {type_name}")
        folder = self._checkpoint(repo, repository)
        name = f"hf:{repo}"
        target = place_for(name, f"{repo.rsplit('/', 1)[-1]}-{type_name.upper()}.gguf")
        making = self._named(f"convert to {type_name}")
        made = from_checkpoint(folder, target, type_name=type_name, progress=making)
        origin = f"made from hf:{repo}@{repository.commit}"
        return Pulled(
            record(target, name=name, source=origin, sha256=made.sha256, type_name=type_name), True
        )

    def checkpoint(self, address: str) -> Path:
        """Return a folder with the checkpoint at hf:OWNER/REPO[@REVISION], fetched. Raises as `pull`."""
        from g4cli.core.errors import UsageError
        from g4cli.hub.address import parse_address

        repo, path, type_name, revision = parse_address(address)
        if path or type_name:
            raise UsageError(
                f"{address}: a checkpoint is a whole repository", hint=f"g4 convert hf:{repo}"
            )
        return self._checkpoint(repo, self._repository(repo, revision))

    def _checkpoint(self, repo: str, repository: Repository | None = None) -> Path:
        """Return a folder with the checkpoint's files, fetched; it stays until its model is removed."""
        from g4cli.core.paths import cache_dir
        from g4cli.hub import fetch_file
        from g4cli.hub.listing import checkpoint_files

        repository = repository or self._repository(repo)
        folder = cache_dir() / "checkpoints" / repo.replace("/", "--") / repository.commit[:12]
        for file in checkpoint_files(repo, repository.files):
            fetch_file(
                self.hub,
                repository,
                file,
                folder / file.name,
                restart=self.wish.restart,
                progress=self.progress,
                notice=self.notice,
            )
        self.notice(f"the checkpoint stays in {folder}")
        return folder

    def _fetch_type(
        self, repository: Repository, name: str, type_name: str, model: Model | None = None
    ) -> Pulled:
        """Return the model of one type, fetched with what belongs beside it."""
        from g4cli.hub.listing import pick
        from g4cli.store.models import select_unfinished

        wanted = [
            (repository, f, type_name) for f in pick(repository.repo, repository.files, type_name)
        ]
        wanted += [(place, file, "") for place, file in self._sidecars(model, repository)]
        have = {part.file: part.have_bytes for part in select_unfinished(name)}
        for _, file, _ in wanted:  # the bars in this order, the model first
            self.progress(have.get(file.name, 0), file.nbytes, file.name)
        return self._fetch(name, wanted)

    def _fetch(self, name: str, wanted: Sequence[tuple[Repository, RemoteFile, str]]) -> Pulled:
        """Return the model in the first of `wanted`, all fetched at once and recorded."""
        from g4cli.hub.together import run_together
        from g4cli.store.make import Pulled

        self._require_space(name, [file for _, file, _ in wanted])
        jobs = [partial(self._fetch_one, place, name, file, kind) for place, file, kind in wanted]
        done = run_together(jobs)
        models = [fetched for (_, _, kind), (_, fetched) in zip(wanted, done, strict=True) if kind]
        return Pulled(
            done[0][0], any(fetched.origin != "here" for fetched in models or [done[0][1]])
        )

    def _require_space(self, name: str, files: Sequence[RemoteFile]) -> None:
        """Raise NoSpace unless all of `files` that are not here yet fit on the disk together."""
        from g4cli.core.files import require_space
        from g4cli.store.adopt import place_for
        from g4cli.store.models import select_unfinished

        here = sum(u.have_bytes for u in select_unfinished(name))
        absent = sum(f.nbytes for f in files if not place_for(name, f.name).is_file())
        require_space(place_for(name, files[0].name).parent, absent - here)

    def _fetch_one(
        self,
        repository: Repository,
        name: str,
        file: RemoteFile,
        type_name: str,
        cancelled: Callable[[], bool],
    ) -> tuple[Entry, Fetched]:
        from g4cli.hub import fetch_file
        from g4cli.store.adopt import place_for, record
        from g4cli.store.models import entry_at
        from g4cli.store.verify import is_intact

        target = place_for(name, file.name)
        known = entry_at(target, name)
        is_same = (
            known is not None
            and file.sha256 != ""
            and (known.sha256, known.nbytes) == (file.sha256, file.nbytes)
        )
        if known and is_same and not self.wish.restart:
            if is_intact(known, progress=self.progress):
                from g4cli.hub import Fetched

                return known, Fetched(target, file.nbytes, file.sha256, 0, 0, "here")
            self.notice(f"{known.label} has changed on this disk: fetched again")
        elif known and not is_same:
            self.notice(f"{known.label} is newer on the hub: fetched again")
        fetched = fetch_file(
            self.hub,
            repository,
            file,
            target,
            restart=self.wish.restart,
            progress=self.progress,
            notice=self.notice,
            cancelled=cancelled,
        )
        source = f"hf:{repository.repo}/{file.path}@{repository.commit}"
        entry = record(target, name=name, source=source, sha256=fetched.sha256, type_name=type_name)
        return entry, fetched

    def _sidecars(
        self, model: Model | None, repository: Repository
    ) -> list[tuple[Repository, RemoteFile]]:
        """Return what belongs beside the model: the projector, and the draft where it was asked for."""
        from g4cli.hub.listing import pick_draft, pick_mmproj
        from g4cli.store.models import entries_of

        name = model.name if model else f"hf:{repository.repo}"
        roles = {e.role for e in entries_of(name)}
        found = []
        for wanted, role, choose, rows in (
            (self.wish.mmproj, "mmproj", pick_mmproj, model.mmproj if model else ()),
            (self.wish.draft, "draft", pick_draft, model.drafts if model else ()),
        ):
            if not wanted or role in roles:
                continue
            place, file = repository, choose(repository.files)
            for row in rows:
                if file is None and row.repo != repository.repo:
                    place = self._repository(row.repo)
                    file = choose(place.files)
            if file is not None:
                found.append((place, file))
        return found

    def _repository(self, repo: str, revision: str | None = None) -> Repository:
        """Return the repository as the hub has it now; offline, as the hub's cache knows it."""
        from g4cli.hub.cache import cached_repository

        if self.hub.options.offline:
            known = cached_repository(self.hub.options.cache, repo, revision)
            if known:
                self.notice(f"offline: {repo} as the Hugging Face cache knows it")
                return known
        return self.hub.repository(repo, revision)

    def _named(self, label: str) -> Progress:
        """Return the bar of one thing that is made: its parts' names are not shown."""
        return lambda done, total, _: self.progress(done, total, label)

    def _here(self, name: str, type_name: str, file: str = "") -> Entry | None:
        from g4cli.store.models import entries_of
        from g4cli.store.verify import is_intact

        for entry in entries_of(name):
            fits = (
                entry.role == "model"
                and type_name in ("", entry.type)
                and file in ("", entry.path.name)
            )
            if fits and is_intact(entry, progress=self.progress):
                return entry
        return None
