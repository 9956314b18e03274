"""Files of JSON lines that grow by one result at a time: an interruption loses the last at most."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import BadFile, UsageError
from g4cli.core.files import open_file
from g4cli.core.units import GIB, size_text

_MAX_BYTES: Final = 2 * GIB  # a choice: the file is read whole


def read_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that are not empty; none if there is no such file.

    The last may have been cut off. Raises BadFile if the file is too large.
    """
    if not path.exists():
        return []
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > _MAX_BYTES:
            raise BadFile(f"{path} is larger than {size_text(_MAX_BYTES)}")
        return [line for line in file.read(_MAX_BYTES).split(b"\n") if line.strip()]


def is_cut_off(line: bytes, first_key: str) -> bool:
    """Return whether `line` is the start, and not all, of an object whose first key is this."""
    start = json.dumps({first_key: ""})[:-2].encode()
    if not (line.startswith(start) or start.startswith(line)):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def append_line(path: Path, row: Mapping[str, Any], *, mode: int, option: str) -> None:
    """Append `row` to a file, which is made with the permissions `mode`, and flush it to the disk.

    A line that was cut off is ended first. Raises UsageError, which names the command-line option
    for another file, if the file cannot be opened, and OSError if it cannot be written.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, mode)
    except OSError as err:
        raise UsageError(
            f"{path} cannot be written: {err.strerror}", hint=f"{option} FILE in another folder"
        ) from err
    with os.fdopen(descriptor, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        file.write(("\n" if is_cut else "").encode() + json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(descriptor)
