"""The models that are loaded: on demand, one start for all who wait, the longest unused goes first.

A model is opened when a request needs it. Where the next does not fit beside those that are loaded
(DoesNotFit from `open_model`), the one whose last request ended longest ago is closed, and it is
tried again; a model that answers is never closed. One that nobody has used for `keep_alive_s` is
closed too. Its memory is free when its process has ended: no model is opened before that.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

from g4cli.core.errors import DoesNotFit, Interrupted, QueueFull
from g4cli.operations.serving.loaded import LoadedModel

OpenModel: TypeAlias = Callable[[str, Sequence[str]], Awaitable[LoadedModel]]
"""Name of a model, and names of those that are loaded -> the model, loaded.

Raises DoesNotFit if it does not fit beside them.
"""

_MIN_KEEP_ALIVE_S: Final = 0.1  # a choice: see _start_timer


class ModelPool:
    """Hands out loaded models. `max_models` 0: as many as fit. `keep_alive_s` below 0: for ever."""

    def __init__(
        self, open_model: OpenModel, *, max_models: int = 0, keep_alive_s: float = -1.0
    ) -> None:
        self._open_model, self._max_models = open_model, max_models
        self._keep_alive_s = keep_alive_s
        self.models: dict[str, LoadedModel] = {}
        # By the names of models:
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._n_waiting: Counter[str] = Counter()  # requests that wait for a model to be opened
        self._keep_alive: dict[str, float] = {}  # seconds, as the last request asked
        self._timers: dict[str, asyncio.TimerHandle] = {}  # which close what nobody uses
        self._lock = asyncio.Lock()  # of opening
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def acquire(self, name: str, keep_alive_s: float | None = None) -> LoadedModel:
        """Return the model `name`, loaded; `release` must follow.

        `keep_alive_s`: how long it stays loaded after this request; None: as usual. Raises what
        opening it raises, QueueFull if models that answer leave no room for it, and Interrupted if
        the pool is closed.
        """
        while (model := self.models.get(name)) is None:
            if self._is_closed:
                raise Interrupted("the server is being stopped")
            if name not in self._opening:
                self._opening[name] = task = asyncio.create_task(self._open(name))
                # To look at an error here keeps asyncio from warning that nobody did.
                task.add_done_callback(lambda task: task.cancelled() or task.exception())
            # All who wait share the start; whoever goes away does not end it for the others.
            opening = self._opening[name]
            self._n_waiting[name] += 1
            try:
                await asyncio.wait((opening,))
            finally:
                self._n_waiting[name] -= 1
            if opening.cancelled():  # by `close`
                raise Interrupted("the server is being stopped")
            opening.result()
        model.n_users += 1
        self._keep_alive[name] = self._keep_alive_s if keep_alive_s is None else keep_alive_s
        if timer := self._timers.pop(name, None):
            timer.cancel()
        return model

    def release(self, model: LoadedModel) -> None:
        """End the use of a model by one request."""
        model.n_users -= 1
        model.used_at = time.monotonic()
        self._start_timer(model)

    async def unload(self, name: str) -> None:
        """Close the model `name`, and return when its memory is free.

        If requests have it, return at once: it is closed after the last of them, unless another
        comes before that.
        """
        model = self.models.get(name)
        if model is None:
            return
        if model.n_users:
            self._keep_alive[name] = 0.0
            return
        self._remove_model(model)
        await asyncio.wait((self._start_close(model),))  # goes on if this is cancelled

    def _start_timer(self, model: LoadedModel) -> None:
        """Let the model be closed after its time, unless a request uses it before."""
        if model.n_users or self.models.get(model.name) is not model:
            return
        seconds = self._keep_alive.get(model.name, self._keep_alive_s)
        if seconds >= 0:
            loop = asyncio.get_running_loop()
            # Requests that waited for the model to be opened come before it is closed again.
            seconds = max(seconds, _MIN_KEEP_ALIVE_S)
            self._timers[model.name] = loop.call_later(seconds, self._close_unused, model)

    def is_opening(self, name: str) -> bool:
        """Return whether the model `name` is being opened."""
        return name in self._opening

    def seconds_left(self, name: str) -> float | None:
        """Return after how long the model is closed unless it is used; None: never, or in use."""
        timer = self._timers.get(name)
        if timer is None:
            return None
        return max(0.0, timer.when() - time.monotonic())  # asyncio's own clock

    async def close(self) -> None:
        """Close all models, those too that are being opened; none is opened any more."""
        self._is_closed = True
        opening = list(self._opening.values())
        for task in opening:
            task.cancel()
        await asyncio.gather(*opening, return_exceptions=True)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        models = list(self.models.values())
        self.models.clear()
        await asyncio.gather(*(model.engine.close() for model in models), *self._closing)

    async def _open(self, name: str) -> None:
        """Open a model and put it into `models`; all requests that wait for it share this task."""
        try:
            # One at a time: each needs to know what the last one took.
            async with self._lock:
                model = await self._open_beside_others(name)
            if self._is_closed:
                await model.engine.close()
                return
            self.models[name] = model
            self._start_timer(model)
        finally:
            del self._opening[name]

    async def _open_beside_others(self, name: str) -> LoadedModel:
        """Return the model, loaded; unused ones are closed until it fits. Raises as `acquire`."""
        while True:
            if self._closing:
                # Unlike gather, it does not cancel them with this task.
                await asyncio.wait(self._closing)
            if self._max_models and len(self.models) >= self._max_models:
                self._close_longest_unused()
                continue
            try:
                return await self._open_model(name, tuple(self.models))
            except DoesNotFit:
                if not self.models:
                    raise
            self._close_longest_unused()

    def _close_longest_unused(self) -> None:
        # Those that waited for a model get it before it goes: two would else close each other's.
        idle = [m for m in self.models.values() if not m.n_users and not self._n_waiting[m.name]]
        if not idle:
            names = ", ".join(self.models)
            raise QueueFull(f"there is no room for another model while {names} answers")
        model = min(idle, key=lambda model: model.used_at)
        self._remove_model(model)
        self._start_close(model)

    def _close_unused(self, model: LoadedModel) -> None:
        if not model.n_users and self.models.get(model.name) is model:
            # Taken out at once: no request may get it before the task runs.
            self._remove_model(model)
            self._start_close(model)

    def _start_close(self, model: LoadedModel) -> asyncio.Task[None]:
        """Close a model that is not in `models` any more, whoever is cancelled meanwhile."""
        task = asyncio.get_running_loop().create_task(model.engine.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    def _remove_model(self, model: LoadedModel) -> None:
        if timer := self._timers.pop(model.name, None):
            timer.cancel()
        del self.models[model.name]
