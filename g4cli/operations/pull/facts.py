"""What a plan is made from: the files of the store, and the repositories of the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from g4cli.core.progress import Progress
from g4cli.core.reporter import Reporter
from g4cli.hub import Hub, Repository
from g4cli.hub.cache import cached_repository
from g4cli.store.manifest import Entry
from g4cli.store.models import list_entries
from g4cli.store.verify import is_intact


class PullFacts(Protocol):
    """Answers the questions of plan_pull. A test answers them from lists."""

    def list_entries(self, name: str) -> Sequence[Entry]:
        """Return the files that the store has of the model `name`."""

    def is_intact(self, entry: Entry) -> bool:
        """Return whether the file of `entry` is what it was when it was recorded."""

    def list_repository(self, repo: str, revision: str | None = None) -> Repository:
        """Return a repository and its files. Raises NetworkError, NotFound or BadFile."""


@dataclass(frozen=True, slots=True)
class HubAndStore:
    """The store and the hub as they are now; offline, the Hugging Face cache instead of the hub."""

    hub: Hub
    reporter: Reporter
    progress: Progress

    def list_entries(self, name: str) -> Sequence[Entry]:
        """Return the files that the store has of the model `name`."""
        return list_entries(name)

    def is_intact(self, entry: Entry) -> bool:
        """Return whether the file of `entry` is what it was; it is hashed if its times changed."""
        return is_intact(entry, progress=self.progress)

    def list_repository(self, repo: str, revision: str | None = None) -> Repository:
        """Return a repository at the commit that `revision` (default: main) means now.

        Raises NetworkError, NotFound or BadFile.
        """
        options = self.hub.options
        if options.offline and (cached := cached_repository(options.cache, repo, revision)):
            self.reporter.say(f"offline: the files of {repo} are those in the Hugging Face cache")
            return cached
        return self.hub.read_repository(repo, revision)
