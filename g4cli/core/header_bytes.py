"""Unpack numbers from the headers of image and audio files."""

from __future__ import annotations

import struct
from typing import Any

from g4cli.core.errors import BadMedia


def unpack_at(data: bytes, layout: str, at: int) -> tuple[Any, ...]:
    """Return the numbers of `layout` (see struct) at byte `at` of `data`.

    Raises BadMedia where the file ends before them.
    """
    try:
        return struct.unpack_from(layout, data, at)
    except struct.error:
        raise BadMedia("is damaged: it ends inside its header") from None
