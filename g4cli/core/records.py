"""Small JSON files in which g4 caches what it found out about this machine.

They are only a cache: a folder that cannot be written costs a probe each time and stops nothing. A
record is trusted only if it is a regular file of this user (or of root) that nobody else may write,
because several people may share a G4_HOME.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import G4Error
from g4cli.core.files import atomic_file

_MAX_BYTES: Final = 1 << 20  # a choice: records have some kilobytes


def read_record(path: Path) -> Any:
    """Return the JSON value stored at `path`, or None if there is none that can be trusted."""
    try:
        # Without O_NONBLOCK a pipe in its place would hang.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()):
                return None
            if status.st_mode & 0o022:  # its group or everyone may write it
                return None
            text = file.read(_MAX_BYTES + 1)
        return json.loads(text) if len(text) <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None


def write_record(path: Path, value: Any) -> bool:
    """Store the JSON `value` at `path`, readable by this user alone; return whether it worked."""
    try:
        with atomic_file(path, mode=0o600) as file:
            file.write(json.dumps(value, indent=1).encode())
    except (G4Error, OSError):
        return False
    return True
