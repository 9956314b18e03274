"""The messages and the progress that an operation reports while it runs.

An operation takes a Reporter and knows no terminal. `cli.output.Output` prints them; the server and
the tests have implementations of their own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol, TypeAlias

from g4cli.core.progress import Progress

ProgressUnit: TypeAlias = Literal["bytes", "steps", "files"]
"""What `done` and `total` of Progress count. "files" are the bytes of several files at once: `part`
is the name of one, and each has a total of its own."""


class Reporter(Protocol):
    """Receives the messages of an operation.

    No decision depends on what an implementation does with them.
    """

    def say(self, text: str) -> None:
        """Report something that the user may want to know: one line of text."""

    def warn(self, text: str) -> None:
        """Report something that the user should know, in every output mode: one line."""

    def progress(
        self, label: str, *, unit: ProgressUnit = "bytes"
    ) -> AbstractContextManager[Progress]:
        """Return a context during which the progress of the job called `label` is shown.

        It yields the function that the job calls to report progress (core.progress.Progress).
        """
