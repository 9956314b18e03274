"""The windows of a transcription that are done, in a file, so that it can go on after a stop.

Each line is the Segment of one window as JSON. What stands at and after a line that a power failure
cut off is transcribed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from g4cli.core.files import make_folder
from g4cli.operations.transcription.transcribe import Segment

_KEPT_S: Final = 30 * 86_400.0  # a choice: nobody goes on after a month


class SavedSegments:
    """The segments of one recording with one model and one set of options; `path` is their file."""

    def __init__(self, folder: Path, key: Sequence[Any]) -> None:
        """`folder` holds such files only. `key`: what the text depends on; its hash is the name."""
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]
        self.path = folder / f"{name}.jsonl"
        self._works = True
        _remove_old(folder)

    def load(self) -> list[Segment]:
        """Return the segments that were saved, in order; none if there is no such file."""
        segments: list[Segment] = []
        with suppress(OSError, ValueError, TypeError, KeyError):
            for line in self.path.read_text("utf-8").splitlines():
                data = json.loads(line)
                segments.append(
                    Segment(float(data["start"]), float(data["end"]), str(data["text"]))
                )
        return segments

    def write(self, segments: Sequence[Segment]) -> bool:
        """Replace what is saved by `segments`, since no line may follow one that was cut off.

        Return whether that worked; if not, `add` saves nothing either.
        """
        try:
            make_folder(self.path.parent, private=True)
            self._append(segments, os.O_TRUNC)
        except OSError:
            self._works = False
        return self._works

    def add(self, segment: Segment) -> None:
        """Save one segment more; it is on the disk afterwards, if there is room."""
        if self._works:
            with suppress(OSError):
                self._append([segment])

    def _append(self, segments: Sequence[Segment], flag: int = 0) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | flag, 0o600)
        with open(descriptor, "ab") as file:
            for segment in segments:
                line = {"start": segment.start_s, "end": segment.end_s, "text": segment.text}
                file.write(json.dumps(line).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def delete(self) -> None:
        """Forget the segments, since the transcript is written."""
        with suppress(OSError):
            self.path.unlink()


def _remove_old(folder: Path) -> None:
    with suppress(OSError):
        for path in folder.glob("*.jsonl"):
            if time.time() - path.stat().st_mtime > _KEPT_S:
                path.unlink(missing_ok=True)
