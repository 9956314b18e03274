"""The other end of a worker's pipe: what the scheduler tells, without a process."""

from __future__ import annotations

from typing import Any

from g4cli.runtime.llama.interrupt import Interrupt


class Pipe:
    """What the scheduler tells the other process, by request; requests can be cancelled."""

    def __init__(self) -> None:
        self.interrupt = Interrupt()
        self.told: dict[int, list[Any]] = {}
        self.failed: dict[int, BaseException] = {}
        self.begun: list[int] = []
        self.done: list[int] = []
        self.cancelled: set[int] = set()

    def send_to(self, number: int, *messages: Any) -> None:
        self.told.setdefault(number, []).extend(messages)

    def hold_output(self) -> None: ...

    def flush_output(self) -> None: ...

    def begin_request(self, number: int) -> None:
        self.begun.append(number)

    def is_cancelled(self, number: int) -> bool:
        return number in self.cancelled

    def finish_request(self, number: int) -> None:
        self.done.append(number)

    def fail_request(self, err: BaseException, number: int = 0) -> None:
        self.failed[number] = err
