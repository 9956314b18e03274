"""What a PullPlan is based on: the files in the store, and the repositories of the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from g4cli.core.progress import Progress
from g4cli.core.reporter import Reporter
from g4cli.hub import Hub, Repository
from g4cli.hub.cache import cached_repository
from g4cli.store.manifest import Entry
from g4cli.store.models import list_entries
from g4cli.store.verify import is_intact


@dataclass(frozen=True, slots=True)
class PullFacts:
    """The store and the hub; offline, the Hugging Face cache takes the place of the hub.

    The tests of plans have a class with the same methods that answers from lists.
    """

    hub: Hub
    reporter: Reporter
    progress: Progress

    def list_entries(self, name: str) -> Sequence[Entry]:
        """Return the files of the model `name` in the store."""
        return list_entries(name)

    def is_intact(self, entry: Entry) -> bool:
        """Return whether the file of `entry` is unchanged; it is hashed if its times differ."""
        return is_intact(entry, progress=self.progress)

    def list_repository(self, repo: str, revision: str | None = None) -> Repository:
        """Return a repository at the current commit of `revision` (default: main).

        Raises NetworkError, NotFound or BadFile.
        """
        options = self.hub.options
        if options.offline and (cached := cached_repository(options.cache, repo, revision)):
            self.reporter.say(f"offline: the files of {repo} are those in the Hugging Face cache")
            return cached
        return self.hub.read_repository(repo, revision)
