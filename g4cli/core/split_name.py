"""The names of the parts of a split GGUF: NAME-00001-of-00003.gguf, as llama.cpp expects them.

Source: llama_split_path and llama_split_prefix, src/llama.cpp, llama.cpp@0c1e57098.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

_PART: Final = re.compile(r"-(\d{5})-of-(\d{5})(\.gguf)?\Z", re.ASCII)


class SplitName(NamedTuple):
    """The path of a part, taken apart: `number` begins at 1, `stem` is what precedes it."""

    stem: str
    number: int
    total: int


def parse_split_name(path: str) -> SplitName | None:
    """Return the stem and the numbers of a part's path; None for others.

    The path may lack .gguf, as in listings that name a model without it.
    """
    match = _PART.search(path)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        return None
    return SplitName(path[: match.start()], int(match[1]), int(match[2]))


def name_part(stem: str, number: int, total: int) -> str:
    """Return the path of part `number` (from 1) of the `total` parts of `stem`."""
    return f"{stem}-{number:05d}-of-{total:05d}.gguf"


def list_parts(path: str) -> Iterator[str]:
    """Yield the paths of all parts of the split file that `path` belongs to, else `path` alone."""
    split = parse_split_name(path)
    if split is None:
        yield path
    else:
        yield from (name_part(split.stem, i, split.total) for i in range(1, split.total + 1))
