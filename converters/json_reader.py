"""Typed reads from a JSON object, which collect all faults before the caller reports them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_MAX_INT: Final = 1 << 31  # keys of a GGUF are 32-bit integers
_MAX_FLOAT: Final = 1e30  # a choice within the range of float32; refuses Infinity, too


class Reader:
    """Typed reads from the JSON object `raw`. Each returns the default for an absent key.

    For a wrong value it adds a sentence to `faults` and returns the default too, so that reading
    can continue.
    """

    def __init__(self, raw: Mapping[str, Any], faults: list[str]) -> None:
        self.raw, self.faults = raw, faults

    def read_int(self, key: str, default: int, *, low: int = 1, high: int = _MAX_INT) -> int:
        """Return the integer under `key`, from `low` to `high` - 1."""
        value = self.raw.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value < high:
            self.faults.append(
                f"{key} is {value!r}; it must be an integer from {low} to {high - 1}"
            )
            return default
        return value

    def read_optional_int(self, key: str) -> int | None:
        """Return the integer above 0 under `key`, or None where it is absent or null."""
        return None if self.raw.get(key) is None else self.read_int(key, 1)

    def read_float(self, key: str, default: float) -> float:
        """Return the number above 0 under `key`."""
        value = self.raw.get(key, default)
        if (
            not isinstance(value, (int, float))
            or isinstance(value, bool)
            or not 0 < value < _MAX_FLOAT
        ):
            self.faults.append(f"{key} is {value!r}; it must be a number above 0")
            return default
        return float(value)

    def read_bool(self, key: str, default: bool) -> bool:
        """Return the Boolean under `key`; null counts as absent."""
        value = self.raw.get(key, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.faults.append(f"{key} is {value!r}; it must be true or false")
        return bool(value)
