"""The loop of a model with one conversation, on an engine that does nothing."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from g4cli.chat import Evaluated, Finished, TurnOptions
from g4cli.core.errors import RuntimeFailed
from g4cli.runtime.engine.messages import RunTurn
from g4cli.runtime.engine.options import Sampling
from g4cli.runtime.engine.turn_queue import TurnQueue

REQUEST = RunTurn((1, 2), Sampling(), TurnOptions())


def make_queue() -> tuple[TurnQueue, Mock, Mock]:
    """Return a queue whose turns are interrupted at once, its engine and its service."""
    engine = Mock(n_ctx=16, n_past=0, drafted=None, model=Mock(digits={}))
    engine.evaluate.return_value = Evaluated(reused=0, evaluated=0, complete=False)
    service = Mock()
    service.is_cancelled.return_value = False
    return TurnQueue(engine, service), engine, service


def sent_to(service: Mock, number: int) -> list[Any]:
    """Return the kinds of the messages that a request got."""
    calls = service.send_to.call_args_list
    return [type(message) for to, *messages in (c.args for c in calls) if to == number
            for message in messages]  # fmt: skip


def test_an_engine_that_fails_after_an_answer_does_not_end_the_worker() -> None:
    queue, engine, service = make_queue()
    engine.end_turn.side_effect = RuntimeFailed("llama.cpp cannot truncate the context")
    queue.add_turn(1, REQUEST)
    queue.add_turn(2, REQUEST)
    while queue.has_work:
        queue.run_step()
    assert [sent_to(service, number) for number in (1, 2)] == [[Finished], [Finished]]
    assert [call.args[0] for call in service.finish_request.call_args_list] == [1, 2]


def test_a_cancelled_turn_that_waits_for_nothing_says_that_it_was_interrupted() -> None:
    """A chat that is stopped before its turn begins waits for the reply."""
    queue, _, service = make_queue()
    service.is_cancelled.return_value = True
    queue.add_turn(1, REQUEST)
    while queue.has_work:
        queue.run_step()
    assert sent_to(service, 1) == [Finished]


def test_a_cancelled_turn_that_waits_for_another_is_dropped() -> None:
    queue, _, service = make_queue()
    service.is_cancelled.side_effect = lambda number: number == 2
    queue.add_turn(1, REQUEST)
    queue.add_turn(2, REQUEST)
    queue.run_step()
    queue.run_step()
    assert not queue.has_work
    assert sent_to(service, 2) == []
    assert service.finish_request.call_args_list[0].args == (2,)
