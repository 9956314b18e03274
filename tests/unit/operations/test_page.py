"""What the page of the server does without HTTP: answers that end, pulls that are begun again."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from g4cli.core.errors import QueueFull
from g4cli.operations.page import pulls
from g4cli.operations.page.answers import PageAnswer
from g4cli.operations.serving.requests import TurnRequest
from g4cli.server.page_routes.answers import find_view


def test_to_stop_an_answer_that_is_being_saved_waits_until_it_is() -> None:
    async def main() -> None:
        @asynccontextmanager
        async def refuse(_: TurnRequest, **__: Any) -> AsyncIterator[None]:
            raise QueueFull("busy")
            yield

        async def save(answer: PageAnswer) -> None:
            saving.set()
            await may_end.wait()
            saved.append(answer.finish_reason)

        saving, may_end, saved = asyncio.Event(), asyncio.Event(), list[str]()
        service: Any = SimpleNamespace(load=AsyncMock(), start_turn=refuse)
        answer = PageAnswer(1, 2, TurnRequest(model="tiny"))
        answer.start(service, save)
        await saving.wait()
        stopping = asyncio.create_task(answer.stop())
        await asyncio.sleep(0.01)
        may_end.set()
        await stopping
        assert saved == ["error"]

    asyncio.run(main())


def test_an_answer_says_when_its_model_is_loaded_and_its_prompt_is_read() -> None:
    async def main() -> None:
        states, versions = [], []

        async def load(*_: Any) -> None:
            states.append(answer.state)

        @asynccontextmanager
        async def read_prompt(
            _: TurnRequest, *, on_prompt: Callable[[int], None]
        ) -> AsyncIterator[None]:
            states.append(answer.state)
            on_prompt(12)
            changes = find_view(answer).describe_changes(0, 0, is_done=False)
            assert (changes.event["state"], changes.event["prompt_tokens"]) == ("reading", 12)
            versions.append(answer.version)
            raise QueueFull("busy")
            yield

        service: Any = SimpleNamespace(load=load, start_turn=read_prompt)
        answer = PageAnswer(1, 2, TurnRequest(model="tiny"))
        answer.start(service, AsyncMock())
        await asyncio.wait_for(answer.wait_for_change(0), 60)
        while answer.state != "done":
            await answer.wait_for_change(answer.version)
        assert states == ["loading", "reading"]
        assert versions == [2], "a watcher is told of the state, and then of the tokens"

    asyncio.run(main())


def test_a_pull_can_be_begun_again_while_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        begun, may_end = threading.Event(), threading.Event()

        def pull(_name: str, _options: Any, job: pulls.PullJob) -> None:
            if begun.is_set():
                return
            begun.set()
            may_end.wait(60)
            with job.progress("pull") as progress:
                progress(1, 2, "model.gguf")

        monkeypatch.setattr(pulls, "pull_model", pull)
        jobs = pulls.Pulls()
        first = jobs.start("e2b")
        assert await asyncio.to_thread(begun.wait, 60)
        jobs.stop(first.name)
        second = jobs.start("e2b")
        may_end.set()
        await asyncio.wait(list(jobs._tasks))
        assert (first.state, second.state) == ("stopped", "done")
        assert jobs.jobs == {first.name: second}

    asyncio.run(main())
