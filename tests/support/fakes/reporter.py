"""A Reporter for tests, which shows nothing and records all calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from g4cli.core.progress import Progress
from g4cli.core.reporter import ProgressUnit


class RecordingReporter:
    """Records messages, warnings, jobs as (label, unit) and steps as (done, total, label)."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []
        self.jobs: list[tuple[str, ProgressUnit]] = []
        self.steps: list[tuple[int, int, str]] = []

    def say(self, text: str) -> None:
        """Record a message."""
        self.messages.append(text)

    def warn(self, text: str) -> None:
        """Record a warning."""
        self.warnings.append(text)

    @contextmanager
    def progress(self, label: str, *, unit: ProgressUnit = "bytes") -> Iterator[Progress]:
        """Record the job, and yield a function that records its progress."""
        self.jobs.append((label, unit))

        def record_step(done: int, total: int, part: str) -> None:
            self.steps.append((done, total, part))

        yield record_step
