"""What an operation may tell while it runs: the signal that goes upward beside exceptions.

An operation takes a Reporter and knows no terminal. `cli.output.Output` is the one that prints; a
server and the tests have their own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeAlias

from g4cli.core.progress import Progress

ProgressUnit: TypeAlias = Literal["bytes", "steps", "files"]
"""What is counted. With "files", bytes are counted for each label separately."""


class Reporter(Protocol):
    """Where the messages of an operation go.

    No decision depends on what an implementation does with them.
    """

    def say(self, text: str) -> None:
        """Tell something that the user may want to know: one line of text."""

    def warn(self, text: str) -> None:
        """Tell something that the user should know, in every output mode: one line of text."""

    def progress(
        self, label: str, *, unit: ProgressUnit = "bytes"
    ) -> AbstractContextManager[Progress]:
        """Return a context that shows the progress of the job called `label` for as long as it is
        open.

        It yields the function that the job calls with how much is done (core.progress.Progress).
        """
