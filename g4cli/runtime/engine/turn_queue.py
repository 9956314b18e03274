"""Turns one after the other: the loop of a model with one conversation, which may draft tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from g4cli.chat import Finished, TurnEvent, run_turn
from g4cli.runtime.engine.llama_engine import LlamaEngine
from g4cli.runtime.engine.messages import Progress, RunTurn
from g4cli.runtime.engine.service import Service


class TurnQueue:
    """Carries out turns in the order in which they came, one event a step."""

    def __init__(self, engine: LlamaEngine, service: Service) -> None:
        self._engine, self._service = engine, service
        self._waiting: deque[tuple[int, RunTurn]] = deque()
        self._number = 0  # of the turn that runs, whose events follow
        self._events: Iterator[TurnEvent] | None = None

    @property
    def has_work(self) -> bool:
        """Return whether a turn runs or waits."""
        return self._events is not None or bool(self._waiting)

    def add_turn(self, number: int, request: RunTurn) -> None:
        """Append a turn to the queue."""
        self._waiting.append((number, request))

    def run_step(self) -> None:
        """Begin the next turn, or send the next event of the one that runs."""
        try:
            if self._events is None:
                self._number, request = self._waiting.popleft()
                self._service.begin_request(self._number)
                self._events = self._begin_turn(request)
            else:
                self._drop_cancelled()
                self._continue_turn(self._events)
        except Exception as err:
            # After Finished, nobody reads of it any more; what a refused truncation has left in the
            # context, the next turn removes or tells of.
            self._events = None
            self._service.fail_request(err, self._number)

    def _continue_turn(self, events: Iterator[TurnEvent]) -> None:
        if self._service.is_cancelled(self._number):
            self._service.interrupt.set()  # another request may have cleared it
        event = next(events)
        self._service.send_to(self._number, event)
        if isinstance(event, Finished):
            self._service.finish_request(self._number)
            self._events = None
            self._engine.end_turn()  # last: nobody has to wait until the state is saved

    def _drop_cancelled(self) -> None:
        """End the turns that were cancelled while they waited for the one that runs.

        One that is cancelled while nothing runs is begun all the same and ends at once, with a
        Finished that says so: the process with a single conversation needs it after Ctrl-C.
        """
        for item in [item for item in self._waiting if self._service.is_cancelled(item[0])]:
            self._waiting.remove(item)
            self._service.finish_request(item[0])

    def _begin_turn(self, request: RunTurn) -> Iterator[TurnEvent]:
        engine = self._engine
        engine.begin(
            request.sampling,
            request.grammar,
            request.grammar_scope,
            keep_logits=request.options.n_probs is not None,
        )
        return run_turn(
            engine,
            request.prompt,
            request.options,
            progress=self._send_progress,
        )

    def _send_progress(self, done: int, total: int, part: str) -> None:
        self._service.send_to(self._number, Progress(done, total, part))
