"""The worker's side of the pipe: takes requests, answers them, and can be cancelled at any time.

The main thread works: it answers requests one by one, and between them it goes on with the turns
that run (`Turns`), if the worker has any. A second thread reads: while the main thread is in C, it
takes a Cancel and sets the flag that llama.cpp looks at between two operations. That flag stops a
whole batch, so it is set only while every request that runs is cancelled; among others, a cancelled
turn ends before the next batch.

Questions that need no context, such as the tokens of a text, are answered by a third thread
(`beside`): a megabyte of text takes a second, in which answers would stand still. There is one such
thread, so that a flood of questions takes one core at most. The question with the least work comes
first, but each second of waiting counts like _BYTES_PER_S bytes less: nobody waits for ever.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

from g4cli.core.errors import G4Error, Interrupted, RuntimeFailed
from g4cli.runtime.engine.codec import Codec, FrameReader, ProtocolError, write_all
from g4cli.runtime.engine.messages import Cancel, Done, Failed, Progress, RunTurn
from g4cli.runtime.llama.interrupt import Interrupt

Handler: TypeAlias = Callable[[Any], Iterator[Any]]
"""Carries out a request and yields its answers."""

_BYTES_PER_S: Final = 100_000  # a choice: a tenth of the speed of tokenizing
# Python hands its lock over to a thread that waits for it after this time. The main thread gives it
# up for each call of llama.cpp, and has to wait so long when another thread computes.
_SWITCH_S: Final = 0.0005


class Turns(Protocol):
    """Requests that are carried out in steps, between which others are answered."""

    @property
    def has_work(self) -> bool: ...
    def add_turn(self, number: int, request: RunTurn, /) -> None: ...
    def run_step(self) -> None: ...


class Service:
    """The two pipes of a worker. `interrupt` is set while all requests that run are cancelled."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.interrupt = Interrupt()
        self._requests: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        # (the time of its arrival + its bytes / _BYTES_PER_S, its number, the message)
        self._questions: queue.PriorityQueue[tuple[float, int, Any]] = queue.PriorityQueue()
        self._lock = threading.Lock()  # of the following three and the interrupt
        self._known: set[int] = set()  # read from the pipe and not ended
        self._running: set[int] = set()
        self._cancelled: set[int] = set()
        self._number = 0  # of the request that the main thread answers; 0: the start
        self._held: list[tuple[int, Any]] = []  # what the main thread keeps back (`hold_output`)
        self._holds = False
        self._main = threading.get_ident()
        self._writing = threading.Lock()  # of the pipe
        self._out = os.dup(1)
        os.dup2(2, 1)  # whatever else is printed must not land among the messages

    def send_answer(self, message: Any) -> None:
        """Send an answer to the request that is being answered."""
        self.send_to(self._number, message)

    def send_to(self, number: int, *messages: Any) -> None:
        """Send answers to a request."""
        answers = [(number, message) for message in messages]
        if self._holds and threading.get_ident() == self._main:
            self._held += answers
        else:
            self._write(answers)

    def hold_output(self) -> None:
        """Keep what the main thread sends until `flush_output`: its reader wakes up once.

        Messages are encoded then: several in a row take half the time of one after each batch,
        which leaves nothing of this code in the processor's caches.
        """
        self._holds = True

    def flush_output(self) -> None:
        """Write what was kept back. Ends the process if nobody reads any more."""
        self._holds = False
        self._write(self._held)
        self._held.clear()

    def _write(self, answers: Iterable[tuple[int, Any]]) -> None:
        frames = b"".join(self._codec.encode(number, message) for number, message in answers)
        try:
            with self._writing:
                write_all(self._out, frames)
        except OSError:
            os._exit(1)

    def progress(self, done: int, total: int, part: str) -> None:
        """Tell how far the request has come; fits `g4cli.core.progress`."""
        self.send_answer(Progress(done, total, part))

    def serve_requests(
        self,
        handlers: Mapping[type[Any], Handler],
        beside: Mapping[type[Any], Handler] = MappingProxyType({}),
        find_turns: Callable[[], Turns | None] = lambda: None,
    ) -> None:
        """Answer requests until the other side closes the pipe.

        `beside`: handlers of those that another thread carries out. `find_turns` returns what
        carries out turns, None before a model is loaded.
        """
        if beside:
            sys.setswitchinterval(_SWITCH_S)
            threading.Thread(target=self._answer_beside, args=(beside,), daemon=True).start()
        threading.Thread(target=self._read_requests, args=(beside,), daemon=True).start()
        while True:
            turns = find_turns()
            if turns is not None and turns.has_work and self._requests.empty():
                turns.run_step()
                continue
            item = self._requests.get()
            if item is None:
                return
            number, request = item
            if not isinstance(request, RunTurn):
                self._answer_request(number, handlers[type(request)], request)
            elif turns is None:
                self.fail_request(RuntimeFailed("no model is loaded"), number)
            else:
                turns.add_turn(number, request)

    def begin_request(self, number: int) -> None:
        """Count a request among those that run."""
        with self._lock:
            self._running.add(number)
            self._update_interrupt()

    def is_cancelled(self, number: int) -> bool:
        """Return whether the other side does not want a request's answers any more."""
        return number in self._cancelled

    def finish_request(self, number: int) -> None:
        """End a request that was carried out."""
        self._end(number)
        self.send_to(number, Done())

    def fail_request(self, err: BaseException, number: int = 0) -> None:
        """End a request with an error; one that nobody expects keeps its traceback.

        `number` 0: the start of this process, which `Hello` answers otherwise.
        """
        self._end(number)
        if isinstance(err, G4Error):
            self.send_to(number, Failed(err.reference, err.message, err.hint))
        elif isinstance(err, MemoryError):
            self.send_to(number, Failed("no-memory", "there is not enough memory for this"))
        else:
            text = "".join(traceback.format_exception(err)).strip()
            self.send_to(
                number, Failed("error", f"a bug in the process that runs the model:\n{text}")
            )

    def _answer_beside(self, handlers: Mapping[type[Any], Handler]) -> None:
        while True:
            _, number, request = self._questions.get()
            self._answer_request(number, handlers[type(request)], request)

    def _answer_request(self, number: int, handler: Handler, request: Any) -> None:
        if threading.get_ident() == self._main:
            self._number = number
        self.begin_request(number)
        try:
            if self.is_cancelled(number):
                raise Interrupted("")
            for answer in handler(request):
                self.send_to(number, answer)
        except Exception as err:
            self.fail_request(err, number)
        else:
            self.finish_request(number)

    def _read_requests(self, beside: Container[type[Any]]) -> None:
        frames = FrameReader(sys.stdin.fileno())
        try:
            while frames.read_more():
                while (frame := frames.take_frame()) is not None:
                    number, message = self._codec.decode(frame)
                    if isinstance(message, Cancel):
                        self._cancel_request(number)
                    else:
                        self._known.add(number)
                        if type(message) in beside:
                            due = time.monotonic() + len(frame) / _BYTES_PER_S
                            self._questions.put((due, number, message))
                        else:
                            self._requests.put((number, message))
        except (OSError, ProtocolError):
            traceback.print_exc()
        finally:  # also without memory for a request: a worker that does not listen must end
            self._requests.put(None)

    def _cancel_request(self, number: int) -> None:
        with self._lock:
            if number in self._known:  # else it is done already
                self._cancelled.add(number)
                self._update_interrupt()

    def _end(self, number: int) -> None:
        with self._lock:
            for numbers in (self._known, self._running, self._cancelled):
                numbers.discard(number)
            self._update_interrupt()

    def _update_interrupt(self) -> None:
        if self._running and self._running <= self._cancelled:
            self.interrupt.set()
        else:
            self.interrupt.clear()
