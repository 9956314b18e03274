"""The worker's side of the pipe: takes requests one by one, answers them, and can be cancelled at any time.

The main thread works. A second thread reads: while the main thread is in C, it takes a Cancel and
sets the flag that llama.cpp looks at between two operations. A Cancel may overtake its request, and
may come when the request is done already: it counts for requests up to its number and never for
later ones.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from g4cli.core.errors import G4Error
from g4cli.runtime.engine.codec import Codec, FrameReader, ProtocolError, write_all
from g4cli.runtime.engine.messages import Cancel, Done, Failed, Progress, failed_of
from g4cli.runtime.llama.interrupt import Interrupt

Handler: TypeAlias = Callable[[Any], Iterator[Any]]
"""Carries out a request and yields its answers."""


class Service:
    """The two pipes of a worker. `interrupt` is set while the request that runs is cancelled."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.interrupt = Interrupt()
        self._requests: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._number = self._cancelled = 0
        self._out = os.dup(1)
        os.dup2(2, 1)  # whatever else is printed must not land among the messages

    def send(self, message: Any) -> None:
        """Send an answer to the request that runs. Ends the process if nobody reads any more."""
        try:
            write_all(self._out, self._codec.encode(self._number, message))
        except OSError:
            os._exit(1)

    def progress(self, done: int, total: int, label: str) -> None:
        """Tell how far the request has come; fits `g4cli.core.progress`."""
        self.send(Progress(done, total, label))

    def run(self, handlers: Mapping[type[Any], Handler]) -> None:
        """Answer requests until the other side closes the pipe."""
        threading.Thread(target=self._read_requests, daemon=True).start()
        while (item := self._requests.get()) is not None:
            number, request = item
            with self._lock:
                self._number = number
                if number > self._cancelled:
                    self.interrupt.clear()
            self._answer_request(handlers[type(request)], request)

    def fail(self, err: BaseException) -> None:
        """Answer with an error; one that nobody expects keeps its traceback."""
        if isinstance(err, G4Error):
            self.send(failed_of(err))
        elif isinstance(err, MemoryError):
            self.send(Failed("no-memory", "there is not enough memory for this"))
        else:
            text = "".join(traceback.format_exception(err)).strip()
            self.send(Failed("error", f"a bug in the process that runs the model:\n{text}"))

    def _answer_request(self, handler: Handler, request: Any) -> None:
        try:
            for answer in handler(request):
                self.send(answer)
        except Exception as err:
            self.fail(err)
        else:
            self.send(Done())

    def _read_requests(self) -> None:
        frames = FrameReader(sys.stdin.fileno())
        try:
            while frames.read_more():
                while (frame := frames.take_frame()) is not None:
                    number, message = self._codec.decode(frame)
                    if isinstance(message, Cancel):
                        self._cancel_request(number)
                    else:
                        self._requests.put((number, message))
        except (OSError, ProtocolError):
            traceback.print_exc()
        self._requests.put(None)

    def _cancel_request(self, number: int) -> None:
        with self._lock:
            self._cancelled = max(self._cancelled, number)
            if self._number <= self._cancelled:
                self.interrupt.set()
