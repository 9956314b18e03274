"""The names of the parts of a split GGUF: NAME-00001-of-00003.gguf, as llama.cpp expects them.

Source: llama_split_path and llama_split_prefix, src/llama.cpp, llama.cpp@0c1e57098.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_PART: Final = re.compile(r"-(\d{5})-of-(\d{5})(\.gguf)?\Z", re.ASCII)


class SplitName(NamedTuple):
    """The path of a part, taken apart: `number` begins at 1, `stem` is what precedes it."""

    stem: str
    number: int
    total: int


def parse_split_name(path: str) -> SplitName | None:
    """Return the stem and the numbers of a part's path, with or without .gguf; None for others."""
    match = _PART.search(path)
    return SplitName(path[: match.start()], int(match[1]), int(match[2])) if match else None


def name_part(stem: str, number: int, total: int) -> str:
    """Return the path of part `number` (from 1) of the `total` parts of `stem`."""
    return f"{stem}-{number:05d}-of-{total:05d}.gguf"
