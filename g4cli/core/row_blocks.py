"""The weights of a tensor as blocks of whole rows, which threads read and encode.

The threads run in parallel because numpy and ggml's encoders release the interpreter lock. The
results come in order, and only a few blocks per thread are under way at any time, so that a file of
any size takes constant memory.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

_Result = TypeVar("_Result")
# Blocks that each thread has under way, a choice: enough that none waits for the writer.
_BLOCKS_PER_THREAD: Final = 3


@dataclass(frozen=True, slots=True)
class Block:
    """Whole rows of a tensor: the number of the first, and a function that reads them.

    `read` is called in a worker thread. `read()` returns shape (rows, row length): float32 or
    float16 values, or uint16 holding bfloat16.
    """

    start: int
    read: Callable[[], NDArray[Any]]


Rows: TypeAlias = Callable[[], Iterable[Block]]
"""All blocks of a tensor in order; called twice where the largest weight must be known first."""


def count_threads() -> int:
    """Return how many threads may run at once."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def run_in_order(
    pool: ThreadPoolExecutor, n_threads: int, tasks: Iterable[Callable[[], _Result]]
) -> Iterator[_Result]:
    """Yield the results of `tasks`, which the `n_threads` threads of `pool` run, in order."""
    left = iter(tasks)
    running = deque(map(pool.submit, islice(left, _BLOCKS_PER_THREAD * n_threads)))
    while running:
        result = running.popleft().result()
        running.extend(map(pool.submit, islice(left, 1)))
        yield result
