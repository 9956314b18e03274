"""A decoded recording: samples in a file, read piece by piece, so that hours take no memory.

`g4 transcribe` and the server's transcriptions decode a recording with it (`decode_child.py` does
the work in a process of its own), ask it for windows of speech, and give each window as a WAV file
to the model's audio encoder.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from g4cli.core.child import ChildLimits, parse_json_lines, run_child
from g4cli.core.errors import BadMedia, RuntimeFailed
from g4cli.core.files import require_file
from g4cli.core.sound_windows import split_at_silences
from g4cli.core.units import GIB

FORMATS: Final = "wav, mp3, flac, ogg"
RATE: Final = 16_000
"""Samples per second, as the audio encoder takes them."""
MAX_SECONDS: Final = 4 * 3600
"""A choice: four hours are 440 MiB of samples on the disk."""
_SAMPLE_BYTES: Final = 2
_BLOCK_SAMPLES: Final = 60 * RATE  # that are searched for silences at once: 1.8 MiB
# Limits of the process that decodes, far above what four hours of any format need. It may have to
# wait for a disk, or on a busy machine for a processor.
_CPU_LIMIT_S: Final = 600
_WALL_LIMIT_S: Final = 1200.0


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording of one channel: `n_samples` 16-bit samples in the file `pcm`, RATE a second.

    The file has no name any more: what was said is gone from the disk when it is closed, also if
    this process is killed. Use the recording in a `with` block, which closes it.
    """

    pcm: BinaryIO
    n_samples: int

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *_: object) -> None:
        self.pcm.close()

    @property
    def seconds(self) -> float:
        """Return its duration."""
        return self.n_samples / RATE

    def find_windows(self, longest_s: float) -> list[tuple[int, int]]:
        """Return windows of at most `longest_s` seconds that are cut at silences.

        Each is a range (first, end) of sample numbers, `end` not included; what lies in none is
        inaudible.
        """
        return split_at_silences(self._read_blocks(), RATE, longest_s)

    def read_wav(self, start: int, end: int) -> bytes:
        """Return the samples from number `start` to `end`, exclusive, as a WAV file."""
        file = io.BytesIO()
        with wave.open(file, "wb") as wav:
            wav.setnchannels(1)
            wav.setsampwidth(_SAMPLE_BYTES)
            wav.setframerate(RATE)
            wav.writeframes(self._read(start, end - start))
        return file.getvalue()

    def _read_blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield all samples, from -1 to 1, a minute at a time."""
        for start in range(0, self.n_samples, _BLOCK_SAMPLES):
            data = self._read(start, min(_BLOCK_SAMPLES, self.n_samples - start))
            yield np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32768)

    def _read(self, start: int, n_samples: int) -> bytes:
        """Return the bytes of samples; several threads may read at once."""
        return os.pread(self.pcm.fileno(), n_samples * _SAMPLE_BYTES, start * _SAMPLE_BYTES)


def decode_recording(path: Path, *, name: str = "") -> Recording:
    """Return the recording in the file `path`, decoded to a temporary file, in constant memory.

    `name` stands for the path in messages. Raises FileMissing, BadMedia, or RuntimeFailed if no
    process can be started or no temporary file be made.
    """
    name = name or str(path)
    source = str(require_file(path).resolve())
    try:
        with tempfile.TemporaryDirectory(prefix="g4-recording-") as folder:
            pcm = Path(folder) / "samples.pcm"
            request = {"recording": source, "pcm": str(pcm), "seconds": MAX_SECONDS}
            output, status = run_child(
                "g4cli.runtime.sound.decode_child",
                text=json.dumps(request),
                timeout_s=_WALL_LIMIT_S,
                memory_bytes=GIB,  # where the kernel does not enforce data_bytes: macOS
                limits=ChildLimits(data_bytes=GIB, cpu_seconds=_CPU_LIMIT_S),
            )
            answer = next(iter(parse_json_lines(output.stdout)), {})  # {}: it ended before
            if "samples" in answer:  # the open file outlives its folder
                return Recording(pcm.open("rb"), int(answer["samples"]))
    except OSError as err:
        raise RuntimeFailed(f"{name} cannot be decoded: {err}") from err
    what = answer.get("error", f"ends the process that decodes it (status {status})")
    raise BadMedia(f"{name} {what}", hint=f"formats of recordings: {FORMATS}")
