"""Pulls that the page has begun: they go on when it is closed, one after the other."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from g4cli.core.errors import BadField, G4Error, Interrupted
from g4cli.core.progress import Progress
from g4cli.core.registry import looks_like_name, parse_name
from g4cli.core.reporter import ProgressUnit
from g4cli.operations.pull.plan import PullOptions
from g4cli.operations.pull.run import pull_model

PullState: TypeAlias = Literal["waiting", "running", "done", "failed", "stopped"]
_LOG: Final = logging.getLogger("g4.serve")


@dataclass(eq=False)
class PullJob:
    """A pull and how far it is; it is the Reporter of its own operation.

    `parts` has for each file (done, total) in bytes; a total of 0 is not known.
    """

    name: str
    state: PullState = "waiting"
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    error: str = ""
    hint: str = ""
    is_stopped: threading.Event = field(default_factory=threading.Event)

    def say(self, text: str) -> None:
        """Keep a message."""
        self.messages.append(text)

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.messages.append(text)

    @contextmanager
    def progress(self, label: str, *, unit: ProgressUnit = "bytes") -> Iterator[Progress]:
        """Yield the function that takes the progress; it raises Interrupted once it is stopped."""
        del label, unit

        def note(done: int, total: int, part: str) -> None:
            if self.is_stopped.is_set():
                raise Interrupted("the pull was stopped")
            self.parts[part] = (done, total)

        yield note


class Pulls:
    """All pulls since the server began, by the name of the model."""

    def __init__(self) -> None:
        self.jobs: dict[str, PullJob] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()  # one pull at a time

    def start(self, name: str) -> PullJob:
        """Begin to pull the model `name`, such as e2b:q4_0, unless that is under way already.

        Only names of the registry count: no path and no address comes from a request. Raises
        BadField or UnknownModel.
        """
        if not looks_like_name(name):
            raise BadField("name", "not the name of a model")
        name = str(parse_name(name))
        job = self.jobs.get(name)
        # One that was told to stop may take a moment to end.
        if job is None or job.is_stopped.is_set() or job.state not in ("waiting", "running"):
            job = self.jobs[name] = PullJob(name)
            task = asyncio.get_running_loop().create_task(self._run(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return job

    def stop(self, name: str) -> None:
        """Stop a pull; what has arrived is kept, and the next one goes on from there."""
        if job := self.jobs.get(name):
            job.is_stopped.set()
            if job.state == "waiting":
                job.state = "stopped"

    async def close(self) -> None:
        """Stop all pulls, and wait until they have ended."""
        for name in self.jobs:
            self.stop(name)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, job: PullJob) -> None:
        async with self._turn:
            if job.is_stopped.is_set():
                return
            job.state = "running"
            try:
                await asyncio.to_thread(pull_model, job.name, PullOptions(), job)
                job.state = "done"
            except Interrupted:
                job.state = "stopped"
            except G4Error as err:
                job.state, job.error, job.hint = "failed", err.message, err.hint or ""
            except Exception:
                _LOG.exception("a bug in g4 in a pull of the page")
                job.state, job.error = "failed", "a bug in g4; the server's log has the details"
