"""Carry out a PullPlan: download, convert, quantize, and record the files in the store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from g4cli.core.files import require_space
from g4cli.core.hub_address import HUB_PREFIX
from g4cli.core.progress import Progress
from g4cli.core.quoting import shell_command
from g4cli.core.reporter import Reporter
from g4cli.hub import Fetch, Fetched, Hub, HubOptions
from g4cli.hub.cache import cached_file
from g4cli.hub.together import run_together
from g4cli.operations.pull.facts import PullFacts
from g4cli.operations.pull.plan import (
    PlannedFile,
    PullOptions,
    PullPlan,
    plan_checkpoint,
    plan_pull,
)
from g4cli.store.adopt import record_file
from g4cli.store.make import (
    Pulled,
    make_from_checkpoint,
    make_from_file,
    pull_bundled,
    pull_path,
)
from g4cli.store.models import select_unfinished


def pull_model(text: str, options: PullOptions, reporter: Reporter) -> Pulled:
    """Get the model that `text` names onto this disk and return it.

    An interrupted pull resumes when it is called again. Raises what plan_pull raises, and NotFound,
    BadFile, HashMismatch, NoSpace, UsageError or Interrupted.
    """
    hub = Hub(HubOptions.from_environment(offline=options.offline))
    with reporter.progress(f"look up {text}", unit="files") as progress:
        plan = plan_pull(text, options, PullFacts(hub, reporter, progress))
    with reporter.progress(f"pull {plan.label}", unit="files") as progress:
        return _Run(hub, reporter, progress).run_plan(plan)


def fetch_checkpoint(address: str, reporter: Reporter) -> Path:
    """Download the checkpoint at hf:OWNER/REPO[@REVISION] and return its folder.

    Raises what plan_checkpoint and Fetch.run raise.
    """
    hub = Hub(HubOptions.from_environment())
    with reporter.progress(f"pull {address}", unit="files") as progress:
        run = _Run(hub, reporter, progress)
        return run.fetch_checkpoint_files(plan_checkpoint(address, run))


class _Run(PullFacts):
    """Carries out plans, with one connection to the hub and one progress display."""

    __slots__ = ()

    def run_plan(self, plan: PullPlan) -> Pulled:
        for reason in plan.reasons:
            self.reporter.say(reason)
        progress = self._label_progress(plan.label)
        match plan.kind:
            case "keep":
                assert plan.entry is not None
                if plan.sidecars:
                    self._fetch_files(plan)
                return Pulled(plan.entry, is_new=False)
            case "bundled":
                return pull_bundled(plan.name, plan.type, restart=plan.restart, progress=progress)
            case "local":
                assert plan.path is not None
                return pull_path(
                    plan.path, name=plan.name or None, restart=plan.restart, progress=progress
                )
            case "fetch":
                return self._fetch_files(plan)
            case "convert":
                return self._convert_checkpoint(plan)
            case "quantize":
                return self._quantize_source(plan)

    def fetch_checkpoint_files(
        self, files: tuple[PlannedFile, ...], *, restart: bool = False
    ) -> Path:
        """Download the `files` of a checkpoint one after the other and return its folder."""
        for planned in files:
            self._fetch(planned, restart=restart)
        folder = files[0].target.parent
        self.reporter.say(f"the checkpoint stays in {folder}")
        return folder

    def _convert_checkpoint(self, plan: PullPlan) -> Pulled:
        assert plan.target is not None
        folder = self.fetch_checkpoint_files(plan.files, restart=plan.restart)
        progress = self._label_progress(f"convert to {plan.type}")
        sha256 = make_from_checkpoint(folder, plan.target, type_name=plan.type, progress=progress)
        return self._record_made(plan, plan.target, sha256, plan.origin)

    def _quantize_source(self, plan: PullPlan) -> Pulled:
        assert plan.source is not None
        assert plan.target is not None
        source = self.run_plan(plan.source).entry
        progress = self._label_progress(f"quantize to {plan.type}")
        sha256 = make_from_file(source.path, plan.target, type_name=plan.type, progress=progress)
        removal = shell_command("g4", "remove", source.label)
        self.reporter.say(f"{source.label} is kept; {removal} frees its space")
        return self._record_made(plan, plan.target, sha256, f"made from {source.source}")

    def _record_made(self, plan: PullPlan, path: Path, sha256: str, origin: str) -> Pulled:
        entry = record_file(path, name=plan.name, source=origin, sha256=sha256, type_name=plan.type)
        return Pulled(entry, is_new=True)

    def _fetch_files(self, plan: PullPlan) -> Pulled:
        """Download the plan's files at the same time and return the model in the first of them.

        The model is new if one of its own files is; a new sidecar does not count.
        """
        wanted = [*plan.files, *plan.sidecars]
        arrived = {part.file: part.have_bytes for part in select_unfinished(plan.name)}
        cache = self.hub.options.cache
        # What is in the Hugging Face cache is linked, and of a restarted file nothing is kept.
        needed = sum(
            planned.file.nbytes - (0 if plan.restart else arrived.get(planned.target.name, 0))
            for planned in wanted
            if not planned.target.is_file()
            and not cached_file(cache, planned.repository.repo, planned.file)
        )
        require_space(wanted[0].target.parent, needed)
        for planned in wanted:  # progress bars in this order, the model first
            if planned.known is None:
                name = planned.target.name
                self.progress(arrived.get(name, 0), planned.file.nbytes, planned.file.name)
        jobs = [partial(self._fetch_one, plan, planned) for planned in wanted]
        pulled: list[Pulled] = run_together(jobs)
        is_new = any(file.is_new for file in pulled[: len(plan.files)])
        return Pulled(pulled[0].entry, is_new)

    def _fetch_one(
        self, plan: PullPlan, planned: PlannedFile, cancelled: Callable[[], bool]
    ) -> Pulled:
        if planned.known is not None:
            return Pulled(planned.known, is_new=False)
        repository, file = planned.repository, planned.file
        fetched = self._fetch(planned, restart=plan.restart, cancelled=cancelled)
        entry = record_file(
            planned.target,
            name=plan.name,
            source=f"{HUB_PREFIX}{repository.repo}/{file.path}@{repository.commit}",
            sha256=fetched.sha256,
            type_name=planned.type_name,
        )
        return Pulled(entry, is_new=fetched.origin != "here")

    def _fetch(
        self,
        planned: PlannedFile,
        *,
        restart: bool,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Fetched:
        return Fetch(
            self.hub,
            planned.repository,
            planned.file,
            planned.target,
            restart=restart,
            progress=self.progress,
            notice=self.reporter.say,
            cancelled=cancelled,
        ).run()

    def _label_progress(self, label: str) -> Progress:
        """Return a progress that shows every part of one job under the label `label`."""
        return lambda done, total, _: self.progress(done, total, label)
