"""A stop flag that llama.cpp can read.

llama.cpp calls an abort callback between two nodes of its graph, and stops when it returns true. A
callback written in Python would cost a millisecond a token. So the callback is the C library's
strlen on a buffer of one character: the length of "" is 0 (continue), that of "x" is 1 (stop).
The buffer is written by another thread than the one that computes.
"""

from __future__ import annotations

import ctypes
from typing import Any


class Interrupt:
    """A stop flag that C can read. It must live as long as the context that it is given to."""

    def __init__(self) -> None:
        self._flag = ctypes.create_string_buffer(2)
        self._strlen = ctypes.CDLL(None).strlen

    @property
    def data(self) -> int:
        """Return the address that llama.cpp passes to the callback."""
        return ctypes.addressof(self._flag)

    def callback(self, prototype: Any) -> Any:
        """Return the C function `bool (*)(void *)` to give to llama.cpp."""
        return ctypes.cast(self._strlen, prototype)

    @property
    def is_set(self) -> bool:
        """Return whether a stop was requested."""
        return self._flag.raw[0] != 0

    def set(self) -> None:
        """Request the running computation to stop."""
        self._flag[0] = b"x"

    def clear(self) -> None:
        """Withdraw the request."""
        self._flag[0] = b"\0"
