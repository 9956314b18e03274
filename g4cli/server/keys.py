"""The API keys of a server, and where one is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from g4cli.core.errors import UsageError
from g4cli.core.files import require_file
from g4cli.core.loopback import is_loopback
from g4cli.core.paths import expand_home

_MAX_FILE_BYTES: Final = 1 << 20  # a choice: thousands of keys


def read_keys(given: Sequence[str], path: Path | None) -> tuple[str, ...]:
    """Return the keys of --api-key (`given`) and of a file, one per line, each once.

    Raises FileMissing, or UsageError if the file is too large or all keys are empty.
    """
    lines = list(given)
    if path is not None:
        file = require_file(expand_home(path))
        if file.stat().st_size > _MAX_FILE_BYTES:
            raise UsageError(f"{path} is too large for a file of keys", hint="one key per line")
        lines += file.read_text(encoding="utf-8", errors="replace").splitlines()
    keys = tuple(dict.fromkeys(key for line in lines if (key := line.strip())))
    if (given or path is not None) and not keys:
        raise UsageError("no API key was given: all of them are empty", hint="--api-key KEY")
    return keys


def require_key(host: str, keys: Sequence[str], *, no_auth: bool) -> None:
    """Raise UsageError if a server at `host` would answer the whole network without a key.

    `no_auth`: that is what the user wants.
    """
    if keys or no_auth or is_loopback(host):
        return
    raise UsageError(
        f"at {host}, everybody in the network could use this server: an API key is needed",
        hint="--api-key-file FILE, or --no-auth if all of them may",
    )
