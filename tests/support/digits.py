"""The digits of Gemma 4's vocabulary, for tests and benchmarks of the loop detector."""

from __future__ import annotations

from typing import Final

GEMMA4_DIGITS: Final = {
    token: value
    for value, token in enumerate(
        (236771, 236770, 236778, 236800, 236812, 236810, 236825, 236832, 236828, 236819)
    )
}
"""Ids of "0" to "9" with their values. It has no token of several Latin digits."""
