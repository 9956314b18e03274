"""The child that decodes a recording; `runtime.sound.recording` starts it.

Reads {"recording": path, "pcm": path, "seconds": most} from standard input, and writes the samples
to the second file: one channel, 16,000 a second, 16-bit integers, little-endian. Prints one JSON
object: {"samples": number} or {"error": text that continues a sentence about the recording}. Files
of strangers are decoded here: libsndfile is written in C, and what it allocates is limited.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from g4cli.runtime.sound.recording import RATE

# Of recordings, in samples per second: below it speech cannot be understood, and no device records
# more. With _MAX_CHANNELS this bounds the memory of a block.
_MIN_RATE: Final = 4000
_MAX_RATE: Final = 384_000
_MAX_CHANNELS: Final = 8
_STEP_S: Final = 10  # of samples that are resampled at once
_MARGIN_S: Final = 1  # on both sides of them, so that a step's edges are not heard

Samples: TypeAlias = NDArray[np.float32]


def resample(blocks: Iterator[Samples], rate: int) -> Iterator[Samples]:
    """Yield the samples of `blocks`, which have `rate` a second, with RATE a second.

    The samples are taken in steps of ten seconds. The Fourier transform of a step, without the
    frequencies that RATE cannot hold (or with zeros for those that `rate` did not have), is
    transformed back into as many samples as are wanted.
    """
    if rate == RATE:
        yield from blocks
        return
    step, margin = _STEP_S * rate, _MARGIN_S * rate
    held = np.zeros(margin, np.float32)  # before the first sample: the margin of the first step
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= step + 2 * margin:
            yield _resample_step(held[: step + 2 * margin], rate)
            held = held[step:]
    while (left := len(held) - margin) > 0:  # behind the last sample: zeros again
        padded = np.zeros(step + 2 * margin, np.float32)
        padded[: len(held)] = held
        yield _resample_step(padded, rate)[: round(left * RATE / rate)]
        held = held[step:]


def _resample_step(samples: Samples, rate: int) -> Samples:
    """Return the step in the middle of `samples`, which are a step and its two margins."""
    n_out = len(samples) * RATE // rate
    spectrum = np.fft.rfft(samples)[: n_out // 2 + 1]
    whole = np.fft.irfft(spectrum, n_out) * (n_out / len(samples))
    margin = _MARGIN_S * RATE
    return np.asarray(whole[margin:-margin], np.float32)


def read_blocks(file: Any) -> Iterator[Samples]:
    """Yield the mean of all channels, ten seconds at a time."""
    while len(block := file.read(_STEP_S * file.samplerate, dtype="float32", always_2d=True)):
        yield np.nan_to_num(block.mean(axis=1), nan=0.0, posinf=1.0, neginf=-1.0)


def decode(recording: str, pcm: str, seconds: int) -> dict[str, Any]:
    """Write the samples of the file `recording` to the file `pcm`, `seconds` of them at most.

    Returns their number, or what is wrong, as the object that is printed.
    """
    n_samples = 0
    # Opened here: soundfile takes no path that is not UTF-8, and refuses the ending ".raw".
    with (
        open(recording, "rb") as source,
        soundfile.SoundFile(source.fileno(), closefd=False) as file,
        open(pcm, "wb") as out,
    ):
        if not _MIN_RATE <= file.samplerate <= _MAX_RATE:
            return {"error": f"has {file.samplerate:,} samples a second, which g4 does not read"}
        if not 1 <= file.channels <= _MAX_CHANNELS:
            return {"error": f"has {file.channels} channels (1 to {_MAX_CHANNELS} are read)"}
        for block in resample(read_blocks(file), file.samplerate):
            n_samples += len(block)
            if n_samples > seconds * RATE:
                return {"error": f"is too long: more than {seconds // 3600} hours"}
            out.write((np.clip(block, -1, 1) * 32767).astype("<i2").tobytes())
    return {"samples": n_samples} if n_samples else {"error": "holds no samples"}


def main() -> None:
    """Answer the request on standard input."""
    try:
        answer = decode(**json.loads(sys.stdin.buffer.read()))
    except soundfile.LibsndfileError as err:
        answer = {"error": f"cannot be decoded: {err.error_string}"}
    except OSError as err:
        answer = {"error": f"cannot be decoded: {err.strerror}"}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
