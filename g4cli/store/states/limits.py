"""How much of the disk saved states may take."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from g4cli.core.errors import UsageError
from g4cli.core.files import existing_folder
from g4cli.core.paths import cache_dir
from g4cli.core.units import GIB, parse_size
from g4cli.store.states.folder import StateFolder

OFF: Final = "off"
AUTO: Final = "auto"
# Choices: at most so much, and a tenth of the free disk.
_MAX_BYTES: Final = 16 * GIB
_FREE_DIVISOR: Final = 10


def states_dir() -> Path:
    """Return the folder of saved states (not created)."""
    return cache_dir() / "states"


def choose_limit(text: str) -> int:
    """Return the bytes that saved states may take by --state-cache; 0: none are written or read.

    `text` is a size, "off" or "auto": a tenth of the free disk, with what states take already, and
    at most 16 GiB; nothing where the folder cannot be written. Raises UsageError.
    """
    if text == OFF:
        return 0
    if text != AUTO:
        try:
            return parse_size(text)
        except UsageError as err:
            raise UsageError(
                f"not a size of the state cache: {text!r:.40}", hint="--state-cache 8G, or off"
            ) from err
    folder = existing_folder(states_dir())
    if not os.access(folder, os.W_OK | os.X_OK):
        return 0
    used = sum(n.n_bytes for n in StateFolder(states_dir(), 0).list_namespaces())
    return min(_MAX_BYTES, (shutil.disk_usage(folder).free + used) // _FREE_DIVISOR)
