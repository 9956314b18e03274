"""The results of a comparison: a file of JSON lines to which every answer is appended at once.

So an interruption costs the answer under way and nothing else. Each line has a `type` and a `key`;
of several lines with the same, the last counts. A line that a crash cut off is skipped.

    type        key                                   what
    model       model, settings                       file, sha256, memory, speed, versions
    answer      model, settings, prompt, sample       the answer, its figures, and its judgement
    opinion     judge and the two answers             which one the judge prefers
    quality     file, text, limit, loading settings   perplexity and speed (`--text`)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from g4cli.core.errors import BadFile
from g4cli.core.quoting import shell_command
from g4cli.operations.json_lines import append_line, is_cut_off, read_lines

# Lines of other types are skipped.
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
        self._read()

    def find(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return the result of this type and key, or None."""
        return self._rows.get((kind, key))

    def add(self, kind: str, key: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Append a result and return it as it was written. Raises UsageError or OSError."""
        row = {"type": kind, "key": key, **fields}
        append_line(self.path, row, mode=0o644, option="-o")
        self._rows[kind, key] = row
        return row

    def _read(self) -> None:
        lines = read_lines(self.path)
        for line in lines:
            try:
                row = json.loads(line)
                kind, key = row["type"], row["key"]
            except (ValueError, LookupError, TypeError, RecursionError):
                continue
            if kind in TYPES and isinstance(key, str):
                self._rows[kind, key] = row
        if lines and not self._rows and not is_cut_off(lines[-1], "type"):
            raise BadFile(
                f"{self.path} does not hold results of g4 compare",
                hint=shell_command("g4", "compare", "...", "-o", "other.html"),
            )
