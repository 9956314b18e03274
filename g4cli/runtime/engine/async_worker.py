"""A worker process of g4 behind an event loop: many requests at once, no thread for any of them.

The loop reads the worker's pipe when there is something to read and sorts the answers by request.
Each request has a queue of its own. A queue that nobody empties must not grow for ever, nor may the
pipe wait for it, since the answers of all others come through the same pipe: such a request is
cancelled, and its reader finds an error at the end of what it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator
from typing import Any, Final

from g4cli.core.errors import G4Error, ReaderTooSlow, RuntimeFailed
from g4cli.runtime.engine.codec import Codec, ProtocolError
from g4cli.runtime.engine.messages import Cancel, Done, Failed, Opening, Progress
from g4cli.runtime.engine.process import END_S, ModelProcess

MAX_WAITING: Final = 4096
"""Answers to one request that may wait for their reader; a choice: minutes of generated tokens."""


class Answers:
    """The answers to one request, in order, as an asynchronous iterator."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._waiting: asyncio.Queue[Any] = asyncio.Queue()
        self._has_end = False  # an exception, behind the last answer

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        """Return the next answer. Raises the error with which the request ended."""
        answer = await self._waiting.get()
        if isinstance(answer, Exception):
            self._waiting.put_nowait(answer)  # whoever asks again sees the end again
            raise answer
        return answer

    def add_answer(self, answer: Any) -> bool:
        """Append an answer; return False if too many wait already."""
        if self._waiting.qsize() >= MAX_WAITING:
            return False
        self._waiting.put_nowait(answer)
        return True

    def mark_end(self, error: G4Error | None = None) -> None:
        """Let the reader see the end, or `error`, behind what it has not read yet."""
        if not self._has_end:
            self._has_end = True
            self._waiting.put_nowait(error or StopAsyncIteration())


class AsyncWorkerProcess(ModelProcess):
    """One worker process. Use it from one event loop; close it when done."""

    def __init__(self, module: str, codec: Codec) -> None:
        """Start it as ModelProcess does."""
        super().__init__(module, codec)
        self._outgoing = bytearray()
        self.hello = Answers(0)
        self._open_answers: dict[int, Answers] = {0: self.hello}
        self.end_error: G4Error | None = None
        self._ended = asyncio.Event()
        self._ending: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        for fd in (self._into, self._out, self._stderr):
            os.set_blocking(fd, False)
        self._loop.add_reader(self._out, self._read_answers)
        self._loop.add_reader(self._stderr, self._read_stderr)

    @property
    def has_ended(self) -> bool:
        """Return whether the process is gone, or is being ended."""
        return self._ending is not None

    def send_request(self, message: Any) -> Answers:
        """Send a request and return its answers. Raises what the end of the worker raises."""
        if self.end_error is not None:
            raise self.end_error
        self._number += 1
        answers = self._open_answers[self._number] = Answers(self._number)
        self._send_message(self._number, message)
        return answers

    def cancel_request(self, answers: Answers) -> None:
        """Tell the worker that nobody reads these answers any more."""
        if self._open_answers.pop(answers.number, None) is not None and not self.has_ended:
            self._send_message(answers.number, Cancel())
        answers.mark_end()

    async def ask(self, message: Any) -> Any:
        """Send a request and return its last answer, None if it has none."""
        answers, last = self.send_request(message), None
        try:
            async for answer in answers:
                last = answer
        finally:
            self.cancel_request(answers)
        return last

    async def close(self) -> None:
        """End the process, at once, and wait until it is gone."""
        self._child.kill()
        self._begin_end()
        await self._ended.wait()

    def _send_message(self, number: int, message: Any) -> None:
        self._outgoing += self._codec.encode(number, message)
        self._write_outgoing()

    def _write_outgoing(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: os.write(self._into, self._outgoing)]
        except BlockingIOError:
            self._loop.add_writer(self._into, self._write_outgoing)
            return
        except OSError:  # it has gone: reading its answers tells how
            self._outgoing.clear()
        self._loop.remove_writer(self._into)

    def _read_answers(self) -> None:
        try:
            if not self._frames.read_more():
                self._begin_end()
            while (frame := self._frames.take_frame()) is not None:
                self._sort_answer(*self._codec.decode(frame))
        except BlockingIOError:
            return
        except (OSError, ProtocolError) as err:
            self.end_error = RuntimeFailed(f"the model's process sent an invalid message: {err}")
            self._child.kill()
            self._begin_end()

    def _sort_answer(self, number: int, answer: Any) -> None:
        if isinstance(answer, Opening):
            self._opening = answer.path
        if isinstance(answer, Opening | Progress):
            return
        answers = self._open_answers.get(number)
        if answers is None:
            return  # cancelled
        if isinstance(answer, Done | Failed) or number == 0:  # no Done follows Hello
            del self._open_answers[number]
            self._opening = None
        if isinstance(answer, Failed):
            answers.mark_end(answer.as_error())
        elif isinstance(answer, Done):
            answers.mark_end()
        elif not answers.add_answer(answer):
            self._open_answers.pop(number)
            self._send_message(number, Cancel())
            answers.mark_end(ReaderTooSlow("the answer was cancelled: nobody read it for too long"))
        if number == 0:
            answers.mark_end()

    def _read_stderr(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if not self._keep_stderr():
                self._loop.remove_reader(self._stderr)

    def _begin_end(self) -> None:
        """Stop reading, and clean up in a task of its own. Calling it again does nothing."""
        if self._ending is None:
            self._loop.remove_reader(self._out)
            self._loop.remove_writer(self._into)
            self._ending = self._loop.create_task(self._end())

    async def _end(self) -> None:
        """Wait for the end of the process, free its pipes, and fail its requests."""
        try:
            status = await asyncio.to_thread(self._child.wait, END_S)
        except subprocess.TimeoutExpired:  # it closed its pipe and goes on: it serves nobody
            self._child.kill()
            status = await asyncio.to_thread(self._child.wait)
        with contextlib.suppress(BlockingIOError):
            while self._keep_stderr():  # what is left in the pipe
                pass
        self._loop.remove_reader(self._stderr)
        self.end_error = self.end_error or self._make_exit_error(status)
        self._child.close()
        for answers in self._open_answers.values():
            answers.mark_end(self.end_error)
        self._open_answers.clear()
        self._ended.set()
