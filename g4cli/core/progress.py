"""The function by which a long job reports its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called as `progress(done, total, part)`; `total` is 0 while unknown.

`part` names what the job is at, such as a file, and changes as the job goes on; "" where there is
nothing to name. Both numbers count what the job's `reporter.ProgressUnit` says.
"""


def no_progress(done: int, total: int, part: str) -> None:
    """Ignore the progress."""
