"""The function by which a long job reports its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called as `progress(done, total, label)`; `total` is 0 while unknown."""


def no_progress(done: int, total: int, label: str) -> None:
    """Ignore the progress."""
