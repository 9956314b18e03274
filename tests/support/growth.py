"""How the time of a function grows with its input, without depending on the machine's speed."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Final

FACTOR: Final = 8
MAX_RATIO: Final = 24
ATTEMPTS: Final = 5
_FLOOR_S: Final = 0.02


def assert_linear(run: Callable[[int], object], n: int) -> None:
    """Fail unless `run` takes about FACTOR times as long for FACTOR * n as for `n`.

    Time in the square of `n` would be FACTOR * FACTOR = 64 times as much, in every attempt. One
    attempt below MAX_RATIO proves otherwise: what else the machine does can only add to it. The
    garbage collector is off, since its work grows with the objects of all tests before; times
    below the floor are the clock's noise.
    """
    ratios = []
    for _ in range(ATTEMPTS):
        ratios.append(_measure(run, FACTOR * n) / max(_measure(run, n), _FLOOR_S))
        if ratios[-1] < MAX_RATIO:
            return
    raise AssertionError(f"{FACTOR} times the input took {min(ratios):.0f} times as long")


def _measure(run: Callable[[int], object], n: int) -> float:
    """Return the processor time of `run(n)` in seconds."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        begun = time.process_time()
        run(n)
        return time.process_time() - begun
    finally:
        if was_enabled:
            gc.enable()
