"""Ctrl-C in the process that holds the conversation: it stops what runs, it does not end g4."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class CtrlC:
    """Calls `pressed()` at every SIGINT inside a `listening` block."""

    def __init__(self, pressed: Callable[[], None]) -> None:
        self._pressed = pressed
        self._listening = self._is_set = False

    @property
    def is_set(self) -> bool:
        """Return whether it was pressed in this `listening` block."""
        return self._listening and self._is_set

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGINT over inside the block.

        A block inside such a block changes nothing: a press before it must not be forgotten.
        """
        if self._listening or threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        self._is_set = False
        before = signal.signal(signal.SIGINT, self._handle_signal)
        self._listening = True
        try:
            yield
        finally:
            self._listening = False
            signal.signal(signal.SIGINT, before)

    def _handle_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._is_set = True
        self._pressed()
