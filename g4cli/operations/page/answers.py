"""An answer that is written to its end whether or not anybody watches, and saved as it grows.

The page may be closed, reloaded or shown twice: the answer belongs to the server. Whoever watches
asks what there is and waits for more; nothing is kept for a watcher who went away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from g4cli.chat import Finished, FoundLoop, PromptRead, Reply, TurnEvent
from g4cli.core.errors import ContextFull, G4Error
from g4cli.operations.serving.requests import TurnRequest
from g4cli.operations.serving.service import Service
from g4cli.prompt.messages import Message
from g4cli.prompt.reply import AnswerText, ThoughtText

AnswerState: TypeAlias = Literal["loading", "reading", "thinking", "writing", "done"]
SaveAnswer: TypeAlias = Callable[["PageAnswer"], Awaitable[None]]
"""Writes what there is of an answer to the store."""

_SAVE_EVERY_S: Final = 2.0  # a choice: so much of an answer may be lost


class PageAnswer:
    """One answer; `turn` is its id in the store. Start it once with `start`.

    `state`: the model is loaded, the prompt is read, a thought or the answer is written, all is
    done. When it is done either `reply` is set or `error` says why there is none. `n_dropped` is
    how many of the oldest messages were left out because the context has no room for them.
    `n_prompt`: tokens of its prompt, 0 until they are counted. `thought_s` is the time that the
    thought took. `doctor_command` examines the model of an answer that repeated itself. `version`
    counts changes: a watcher waits for another one.
    """

    def __init__(self, conversation: int, turn: int, request: TurnRequest) -> None:
        self.conversation, self.turn, self.model = conversation, turn, request.model
        self.state: AnswerState = "loading"
        self.text = self.thought = ""
        self.thought_s = 0.0
        self.n_dropped = 0
        self.n_prompt = 0
        self.reply: Reply | None = None
        self.error: G4Error | None = None
        self.doctor_command = ""
        self.is_bug = False  # whether `error` is none of g4's own
        self.stopped = False  # by somebody, or with the server
        self.version = 0
        self._request = request
        self._changed = asyncio.Event()  # set once, and replaced by another one, at each change
        self._task: asyncio.Task[None] | None = None
        self._thought_began = 0.0

    @property
    def finish_reason(self) -> str:
        """Why it ended: that of the reply, "error", or "partial" while it is written."""
        if self.reply is not None:
            return self.reply.finish_reason
        if self.state != "done":
            return "partial"
        return "interrupted" if self.stopped else "error"

    @property
    def loop(self) -> FoundLoop | None:
        """The repetition that was found in the answer."""
        return self.reply.loop if self.reply else None

    @property
    def message(self) -> Message:
        """The turn as far as it is written."""
        if self.reply is not None:
            return self.reply.message()
        return Message("assistant", self.text, thought=self.thought.strip())

    def start(self, service: Service, save: SaveAnswer) -> None:
        """Let the answer be written from now on; `save` is called now and then, and at the end."""
        self._task = asyncio.get_running_loop().create_task(self._run(service, save))

    async def stop(self) -> None:
        """End the answer; what is written stays. Returns when it is saved."""
        if self._task is None:
            return
        if not self.stopped and self.state != "done":  # else it is being saved already
            self.stopped = True
            self._task.cancel()
        await asyncio.wait((self._task,))

    async def wait_for_change(self, version: int) -> None:
        """Return when there is more than the `version` that the caller has seen."""
        while self.version == version and self.state != "done":
            await self._changed.wait()

    async def _run(self, service: Service, save: SaveAnswer) -> None:
        try:
            await self._write(service, save)
        except asyncio.CancelledError:
            self.stopped = True  # it may not have been: the server is being stopped
        except G4Error as err:
            self.error = err
        except Exception as err:
            self.is_bug = True
            self.error = G4Error("a bug in g4; the server's log has the details")
            self.error.__cause__ = err
        finally:
            self._end_thought()
            # Saved before it is told that it is done: a page that reloads then finds all of it.
            self.state = "done"
            try:
                await asyncio.shield(asyncio.ensure_future(save(self)))
            finally:
                self._notify_watchers()

    async def _write(self, service: Service, save: SaveAnswer) -> None:
        """Let the model answer; a conversation that is too long loses its older half each time."""
        request = self._request
        while True:
            try:
                await self._run_turn(service, request, save)
                return
            except ContextFull:
                shorter = drop_older_half(request.messages)
                if len(shorter) == len(request.messages):
                    raise
                self.n_dropped += len(request.messages) - len(shorter)
                request = replace(request, messages=shorter)

    async def _run_turn(self, service: Service, request: TurnRequest, save: SaveAnswer) -> None:
        saved_at = time.monotonic()
        await service.load(request.model)  # start_turn does so too, and returns after the prompt
        self.state = "reading"
        self._notify_watchers()
        async with service.start_turn(request, on_prompt=self._note_prompt) as turn:
            self.model = turn.model.name
            async for event in turn:
                self._add_event(event)
                if time.monotonic() - saved_at > _SAVE_EVERY_S:
                    await save(self)
                    saved_at = time.monotonic()

    def _note_prompt(self, n_tokens: int) -> None:
        self.n_prompt = n_tokens
        self._notify_watchers()

    def _add_event(self, event: TurnEvent) -> None:
        if isinstance(event, PromptRead):
            self.state = "writing"
        elif isinstance(event, ThoughtText):
            if self.state != "thinking":
                self.state, self._thought_began = "thinking", time.monotonic()
            self.thought += event.text
        elif isinstance(event, AnswerText):
            self._end_thought()
            self.state = "writing"
            self.text += event.text
        elif isinstance(event, Finished):
            self.reply = event.reply
        self._notify_watchers()

    def _end_thought(self) -> None:
        if self._thought_began:
            self.thought_s += time.monotonic() - self._thought_began
            self._thought_began = 0.0

    def _notify_watchers(self) -> None:
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()


def drop_older_half(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return `messages` without the older half of the questions and their answers.

    A system prompt at the beginning stays, and so does the last question.
    """
    system = tuple(messages[:1]) if messages and messages[0].role == "system" else ()
    starts = [index for index, message in enumerate(messages) if message.role == "user"]
    if len(starts) < 2:
        return tuple(messages)
    return (*system, *messages[starts[(len(starts) + 1) // 2] :])
