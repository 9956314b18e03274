"""C calls that nothing can interrupt, in a thread: Ctrl-C is answered while they run.

The engine encodes images and sounds with it (engine/media.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from g4cli.runtime.llama.interrupt import Interrupt

_POLL_S: Final = 0.02  # Ctrl-C is answered within 0.1 s; waiting so often costs no measurable CPU


class Background:
    """Runs one call at a time in a thread. Its methods may be called from several threads.

    A call that is interrupted is abandoned: it goes on to its end, and its result is ignored.
    """

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self._thread: threading.Thread | None = None
        self._abandoned = False
        self._lock = threading.Lock()

    @property
    def is_abandoned(self) -> bool:
        """Return whether nobody waits for the running call any more; it may then end early."""
        return self._abandoned

    def start(self, call: Callable[[], None]) -> bool:
        """Start `call`, which must not raise; return False if another one still runs.

        An abandoned call counts: until its end it may use what this one needs.
        """
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return False
            self._abandoned = False
            self._thread = threading.Thread(target=call, daemon=True)
            self._thread.start()
            return True

    def run(self, call: Callable[[], None]) -> bool:
        """Run `call` after what runs already; return False if interrupted. Raises its error.

        A call that was interrupted before its start does not run; afterwards it is abandoned.
        """
        raised: list[BaseException] = []
        done = threading.Event()

        def run_call() -> None:
            try:
                call()
            except BaseException as err:  # raised again where somebody waits
                raised.append(err)
            done.set()

        while not self.start(run_call):
            if self._interrupt.is_set:
                return False
            self.wait(_POLL_S)
        try:
            while not done.wait(_POLL_S) and not self._interrupt.is_set:
                pass
        finally:  # a second Ctrl-C raises here
            if not done.is_set():
                self.abandon()
        if raised:
            raise raised[0]
        return done.is_set()

    def abandon(self) -> None:
        """Let the running call end as soon as it looks at `is_abandoned`."""
        self._abandoned = True

    def wait(self, seconds: float | None = None) -> None:
        """Wait until nothing runs, at most for `seconds` (None: without limit)."""
        if thread := self._thread:
            thread.join(seconds)
