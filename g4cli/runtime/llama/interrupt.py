"""Ctrl-C that also reaches into llama.cpp.

While C computes, Python runs no signal handlers. llama.cpp asks an abort callback between two graph nodes;
a callback written in Python would cost a millisecond a token. So the callback is libc's strlen over a
one-letter buffer: "" goes on, "x" stops. The buffer is written by a thread that Python's C-level signal
handler wakes through a pipe (signal.set_wakeup_fd).
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any


class Interrupt:
    """A stop flag that C can read. Create it once per engine and keep it as long as the context."""

    def __init__(self) -> None:
        self._flag = ctypes.create_string_buffer(2)
        self._strlen = ctypes.CDLL(None).strlen
        self._pressed_before = False
        self._listening = False

    @property
    def data(self) -> int:
        """Return the address to give to llama.cpp as the callback's data."""
        return ctypes.addressof(self._flag)

    def callback(self, prototype: Any) -> Any:
        """Return the C function `bool (*)(void *)` to give to llama.cpp."""
        return ctypes.cast(self._strlen, prototype)

    @property
    def is_set(self) -> bool:
        """Return whether somebody asked to stop."""
        return self._flag.raw[0] != 0

    def set(self) -> None:
        """Ask the running computation to stop."""
        self._flag[0] = b"x"

    def clear(self) -> None:
        """Forget the request."""
        self._flag[0] = b"\0"

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turn SIGINT into `set()` inside the block; a second one raises KeyboardInterrupt.

        A block inside such a block changes nothing: a press before it must not be forgotten.
        """
        if self._listening or threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        self._listening = True
        self.clear()
        self._pressed_before = False
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        thread = threading.Thread(target=self._watch, args=(reader,), daemon=True)
        thread.start()
        old_handler = signal.signal(signal.SIGINT, self._pressed)
        old_wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            yield
        finally:
            self._listening = False
            signal.set_wakeup_fd(old_wakeup)
            signal.signal(signal.SIGINT, old_handler)
            os.close(writer)  # ends the thread
            thread.join()
            os.close(reader)

    def _pressed(self, _number: int, _frame: FrameType | None) -> None:
        # The thread may have set the flag already for this very press: presses are counted here alone.
        if self._pressed_before:
            raise KeyboardInterrupt
        self._pressed_before = True
        self.set()

    def _watch(self, reader: int) -> None:
        with suppress(OSError):
            while data := os.read(reader, 16):
                if signal.SIGINT in data:
                    self.set()
