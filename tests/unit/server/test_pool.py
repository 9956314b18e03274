"""Models are opened on demand and closed when nobody uses them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from g4cli.core.errors import DoesNotFit, Interrupted, QueueFull
from g4cli.operations.serving.loaded import LoadedModel
from g4cli.operations.serving.pool import ModelPool


class FakeEngine:
    """An engine that can only be closed; `may_end` holds its end up."""

    def __init__(self) -> None:
        self.is_closed = False
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def close(self) -> None:
        """Wait until it may end."""
        await self.may_end.wait()
        self.is_closed = True


def fake_model(name: str) -> LoadedModel:
    fakes: Any = (FakeEngine(), None, None, None)
    return LoadedModel(name, *fakes)


def engine_of(model: LoadedModel) -> FakeEngine:
    engine: Any = model.engine
    assert isinstance(engine, FakeEngine)
    return engine


class Machine:
    """Opens models as long as there is room for them."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.opened: list[LoadedModel] = []
        self.tried: list[str] = []

    async def open_model(self, name: str, others: Sequence[str]) -> LoadedModel:
        """Return a model. Raises DoesNotFit if those that have not ended take the room."""
        self.tried.append(name)
        await asyncio.sleep(0)
        if sum(not engine_of(model).is_closed for model in self.opened) >= self.room:
            raise DoesNotFit(f"{name} does not fit beside {', '.join(others) or 'what ends'}")
        self.opened.append(fake_model(name))
        return self.opened[-1]


async def use(pool: ModelPool, name: str) -> LoadedModel:
    model = await pool.acquire(name)
    pool.release(model)
    return model


@pytest.mark.slow
def test_no_request_gets_a_model_that_is_about_to_be_closed() -> None:
    async def open_model(name: str, _others: Sequence[str]) -> LoadedModel:
        return fake_model(name)

    async def acquire_when_timer_fires() -> dict[str, LoadedModel]:
        pool = ModelPool(open_model, keep_alive_s=0.0)
        pool.release(await pool.acquire("m"))
        left: list[dict[str, LoadedModel]] = []
        seconds = pool.seconds_left("m")
        assert seconds is not None
        # Called in the same turn of the event loop as the timer, right behind it.
        asyncio.get_running_loop().call_later(
            seconds + 0.01, lambda: left.append(dict(pool.models))
        )
        time.sleep(seconds + 0.05)
        await asyncio.sleep(0.01)
        await pool.close()
        return left[0]

    assert asyncio.run(acquire_when_timer_fires()) == {}


def test_the_least_recently_used_model_goes_when_the_next_does_not_fit() -> None:
    async def main() -> None:
        machine = Machine(room=2)
        pool = ModelPool(machine.open_model)
        a, b = await use(pool, "a"), await use(pool, "b")
        await asyncio.sleep(0.01)
        await use(pool, "a")
        await use(pool, "c")
        assert [engine_of(model).is_closed for model in (a, b)] == [False, True]
        assert list(pool.models) == ["a", "c"]
        assert machine.tried == ["a", "b", "c", "c"]
        await pool.close()

    asyncio.run(main())


def test_a_model_that_answers_is_never_closed_for_another() -> None:
    async def main() -> None:
        machine = Machine(room=1)
        pool = ModelPool(machine.open_model)
        a = await pool.acquire("a")
        with pytest.raises(QueueFull, match="while a answers"):
            await pool.acquire("b")
        assert not engine_of(a).is_closed
        pool.release(a)
        await use(pool, "b")
        assert engine_of(a).is_closed
        await pool.close()

    asyncio.run(main())


def test_a_model_that_was_waited_for_is_not_closed_before_it_is_used() -> None:
    async def ask_for_two_at_once() -> tuple[list[Any], list[str]]:
        machine = Machine(room=1)
        pool = ModelPool(machine.open_model, max_models=1)
        asked = asyncio.gather(pool.acquire("a"), pool.acquire("b"), return_exceptions=True)
        answers = await asyncio.wait_for(asked, 10)
        return answers, machine.tried

    (model, refusal), tried = asyncio.run(ask_for_two_at_once())
    assert model.name == "a"
    assert isinstance(refusal, QueueFull)
    assert tried == ["a"]


def test_a_pool_that_is_closed_lets_models_end_that_were_closed_for_another() -> None:
    async def close_while_another_waits() -> FakeEngine:
        machine = Machine(room=1)
        pool = ModelPool(machine.open_model, max_models=1)
        engine = engine_of(await use(pool, "a"))
        engine.may_end.clear()
        waiting = asyncio.create_task(use(pool, "b"))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0.01)
        engine.may_end.set()
        await closing
        with pytest.raises(Interrupted):
            await waiting
        return engine

    assert asyncio.run(close_while_another_waits()).is_closed


def test_a_model_that_fits_nowhere_is_refused() -> None:
    async def main() -> None:
        pool = ModelPool(Machine(room=0).open_model)
        with pytest.raises(DoesNotFit):
            await pool.acquire("a")
        assert pool.models == {}
        await pool.close()

    asyncio.run(main())


def test_the_next_model_waits_for_one_that_is_being_closed() -> None:
    """Its memory is free only when its process has ended."""

    async def main() -> None:
        machine = Machine(room=1)
        pool = ModelPool(machine.open_model, keep_alive_s=0.0)
        a = await use(pool, "a")
        engine_of(a).may_end.clear()
        while pool.models:  # until its time is up
            await asyncio.sleep(0.01)
        opening = asyncio.create_task(use(pool, "b"))
        await asyncio.sleep(0.01)
        assert machine.tried == ["a"]
        engine_of(a).may_end.set()
        assert (await opening).name == "b"
        await pool.close()

    asyncio.run(main())


def test_a_model_is_closed_when_unload_returns() -> None:
    async def main() -> None:
        pool = ModelPool(Machine(room=1).open_model)
        model = await use(pool, "a")
        engine_of(model).may_end.clear()
        unload = asyncio.create_task(pool.unload("a"))
        await asyncio.sleep(0.01)
        assert not pool.models
        assert not unload.done()
        engine_of(model).may_end.set()
        await unload
        assert engine_of(model).is_closed
        await pool.unload("a")
        await pool.close()

    asyncio.run(main())


def test_a_model_that_answers_is_unloaded_after_its_answer() -> None:
    async def main() -> None:
        pool = ModelPool(Machine(room=1).open_model)
        model = await pool.acquire("a")
        await pool.unload("a")
        assert pool.models == {"a": model}
        pool.release(model)
        assert pool.seconds_left("a") is not None
        while not engine_of(model).is_closed:
            await asyncio.sleep(0.01)
        assert not pool.models
        await pool.close()

    asyncio.run(main())


def test_nothing_is_opened_or_left_open_by_a_pool_that_is_closed() -> None:
    async def main() -> None:
        may_open = asyncio.Event()
        opened: list[LoadedModel] = []

        async def open_model(name: str, _others: Sequence[str]) -> LoadedModel:
            with suppress(asyncio.CancelledError):  # too late to stop: it is loaded
                await may_open.wait()
            opened.append(fake_model(name))
            return opened[-1]

        pool = ModelPool(open_model)
        waiting = [asyncio.create_task(pool.acquire("a")) for _ in range(2)]
        await asyncio.sleep(0.01)
        await pool.close()
        for task in waiting:
            with pytest.raises(Interrupted):
                await task
        with pytest.raises(Interrupted):
            await pool.acquire("b")
        assert [engine_of(model).is_closed for model in opened] == [True]
        assert pool.models == {}

    asyncio.run(main())
