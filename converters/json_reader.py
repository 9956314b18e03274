"""Typed reads from a JSON object that collect what is wrong instead of stopping at the first fault."""

from __future__ import annotations

from typing import Any


class Reader:
    """Typed reads from one JSON object; faults are collected, so that all are told at once."""

    def __init__(self, raw: dict[str, Any], faults: list[str]) -> None:
        self.raw, self.faults = raw, faults

    def read_int(self, key: str, default: int, *, low: int = 1, high: int = 1 << 31) -> int:
        """Return a whole number from `low` up to `high`."""
        value = self.raw.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value < high:
            self.faults.append(f"{key} is {value!r}, a whole number of at least {low} is needed")
            return max(default, low)
        return value

    def read_optional_int(self, key: str) -> int | None:
        """Return a whole number above 0, or None where the key is absent or null."""
        return None if self.raw.get(key) is None else self.read_int(key, 1)

    def read_float(self, key: str, default: float) -> float:
        """Return a number above 0."""
        value = self.raw.get(key, default)
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e30:
            self.faults.append(f"{key} is {value!r}, a number above 0 is needed")
            return default
        return float(value)

    def read_bool(self, key: str, default: bool) -> bool:
        """Return true or false; null is the default."""
        value = self.raw.get(key, default)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.faults.append(f"{key} is {value!r}, true or false is needed")
        return bool(value)
