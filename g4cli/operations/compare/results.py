"""The results of a comparison: a file of JSON lines to which every answer is appended at once.

So an interruption costs the answer under way and nothing else. Each line has a `type` and a `key`;
of several lines with the same, the last counts. A line that a crash cut off is skipped.

    type        key                                   what
    model       model, settings                       file, sha256, memory, speed, versions
    answer      model, settings, prompt, sample       the answer, its figures, and its judgement
    opinion     judge and the two answers             which one the judge prefers
    quality     file, text, settings of loading       perplexity and speed (`--text`)
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import BadFile, UsageError
from g4cli.core.files import open_file
from g4cli.core.quoting import shell_command
from g4cli.core.units import GIB, size_text

_MAX_BYTES: Final = 2 * GIB  # a choice: the file is read whole
TYPES: Final = ("model", "answer", "opinion", "quality")


def make_key(*parts: Any) -> str:
    """Return a key for JSON values: 24 hexadecimal digits of their sha256."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


class ResultsFile:
    """The results in one file, which is made when the first line is added."""

    def __init__(self, path: Path) -> None:
        """Read the results at `path`, if there are any. Raises BadFile or UsageError."""
        self.path = path
        self._rows: dict[tuple[str, str], dict[str, Any]] = {}
        self._is_cut = False  # whether the last line has no end: a crash cut it off
        if path.exists():
            self._read()

    def find(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return the result of this type and key, or None."""
        return self._rows.get((kind, key))

    def add(self, kind: str, key: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Append a result and return it as it was written. Raises UsageError or OSError."""
        row = {"type": kind, "key": key, **fields}
        line = json.dumps(row, ensure_ascii=True) + "\n"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            descriptor = os.open(self.path, flags, 0o644)
        except OSError as err:
            raise UsageError(
                f"{self.path} cannot be written: {err.strerror}", hint="-o FILE in another folder"
            ) from err
        with os.fdopen(descriptor, "ab") as file:
            file.write(("\n" if self._is_cut else "").encode() + line.encode())
            file.flush()
            os.fsync(file.fileno())
        self._is_cut = False
        self._rows[kind, key] = row
        return row

    def _read(self) -> None:
        with open_file(self.path) as file:
            if os.fstat(file.fileno()).st_size > _MAX_BYTES:
                raise BadFile(f"{self.path} is larger than {size_text(_MAX_BYTES)}")
            lines = file.read(_MAX_BYTES).split(b"\n")
        self._is_cut = lines[-1] != b""
        n_known = 0
        for line in lines:
            try:
                row = json.loads(line)
                kind, key = row["type"], row["key"]
            except (ValueError, LookupError, TypeError, RecursionError):
                continue
            if kind in TYPES and isinstance(key, str):
                n_known += 1
                self._rows[kind, key] = row
        if not n_known and any(line.strip() for line in lines):
            raise BadFile(
                f"{self.path} does not hold results of g4 compare",
                hint=shell_command("g4", "compare", "...", "-o", "other.html"),
            )
