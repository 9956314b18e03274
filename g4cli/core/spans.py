"""Ranges of bytes: which parts of a file are present, and which are missing."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
"""A range of bytes: start and end, end excluded."""


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """Return `spans` sorted, with those merged that touch or overlap."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def remove_span(spans: Iterable[Span], start: int, end: int) -> list[Span]:
    """Return `spans` without the bytes from `start` to `end`."""
    parts = (part for a, b in spans for part in ((a, min(b, start)), (max(a, end), b)))
    return [(a, b) for a, b in parts if a < b]


def find_gaps(spans: Iterable[Span], nbytes: int) -> list[Span]:
    """Return the ranges from 0 to `nbytes` that `spans`, all within them, leave out, in order."""
    edges = [0, *chain.from_iterable(merge_spans(spans)), nbytes]
    return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
