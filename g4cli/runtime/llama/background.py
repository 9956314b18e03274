"""C calls that nothing can interrupt, in a thread: Ctrl-C is answered while they run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from g4cli.runtime.llama.interrupt import Interrupt

_POLL_S: Final = 0.02


class Background:
    """Runs one call at a time; an interrupted one is abandoned: it ends by itself, unheard."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt
        self._thread: threading.Thread | None = None
        self._abandoned = False

    @property
    def is_abandoned(self) -> bool:
        """Return whether nobody waits for the running call any more; it may then end early."""
        return self._abandoned

    def run(self, call: Callable[[], None]) -> bool:
        """Return whether `call` came to its end; False if interrupted. Raises what it raises.

        An abandoned call is waited for first: until then it may still use what this one needs.
        """
        while self._thread is not None and self._thread.is_alive():
            if self._interrupt.is_set:
                return False
            self._thread.join(_POLL_S)
        self._abandoned = False
        raised: list[BaseException] = []

        def run_call() -> None:
            try:
                call()
            except BaseException as err:  # raised again where somebody waits
                raised.append(err)

        self._thread = thread = threading.Thread(target=run_call, daemon=True)
        thread.start()
        try:
            while thread.is_alive() and not self._interrupt.is_set:
                thread.join(_POLL_S)
        finally:  # a second Ctrl-C raises here
            self._abandoned = thread.is_alive()
        if raised:
            raise raised[0]
        return not self._abandoned

    def wait(self) -> None:
        """Wait until nothing runs."""
        if self._thread:
            self._thread.join()
            self._thread = None
