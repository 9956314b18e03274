"""Cut long audio into windows at its silences, so that each can be transcribed on its own.

`g4 transcribe` (runtime/sound/recording.py) gives the windows to the model one after another.
Gemma 4's encoder takes at most 30 s of audio at once. A cut in the middle of a word loses the word
in both windows, so a cut is placed where the sound is quietest: loudness is measured in frames of
20 ms, averaged over 200 ms (a pause between two words), and the quietest place in the second half
of what a window may hold ends the window. A window with nothing audible in it is left out: a
language model that is given silence invents text for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

_FRAME_S: Final = 0.02
_PAUSE_FRAMES: Final = 10  # 200 ms
# -60 dB of full scale: below the noise of a quiet room with a usual microphone.
_AUDIBLE_POWER: Final = 1e-6
# Places up to 0.5 dB louder than the quietest one, and all below -80 dB, are equally quiet, a
# choice: the last of them is taken, since a longer window gives the model more of a sentence.
_EQUALLY_QUIET: Final = 1.12
_SILENT_POWER: Final = 1e-8


def split_at_silences(
    blocks: Iterable[NDArray[np.float32]], rate: int, longest_s: float
) -> list[tuple[int, int]]:
    """Return the windows of a recording in order: numbers of the first sample and the one after.

    `blocks`: one channel, float32 in -1 to 1, `rate` a second, in pieces of whole seconds, so that
    no frame lies in two of them (the last piece may be shorter); one is in memory at a time. No
    window is longer than `longest_s` seconds, none overlaps another, and what lies in no window is
    inaudible.
    """
    frame_samples = max(1, round(rate * _FRAME_S))
    longest = max(1, int(longest_s * rate) // frame_samples)  # in frames, as all below
    powers, n_samples = [np.zeros(0)], 0
    for block in blocks:
        powers.append(_measure_power(block, frame_samples))
        n_samples += len(block)
    power = np.concatenate(powers)
    smooth = _smooth_power(power)
    windows = []
    start = 0
    while start < len(power):
        end = min(start + longest, len(power))
        if end < len(power):
            end = _find_quietest(smooth, start + (longest + 1) // 2, end)
        if power[start:end].max() >= _AUDIBLE_POWER:
            windows.append((start * frame_samples, min(end * frame_samples, n_samples)))
        start = end
    return windows


def _measure_power(samples: NDArray[np.float32], frame_samples: int) -> NDArray[np.float64]:
    """Return the mean square of each frame; the last frame may be a part of one."""
    starts = np.arange(0, len(samples), frame_samples)
    if not len(starts):
        return np.zeros(0)
    squares = np.square(samples, dtype=np.float64)
    lengths = np.diff(np.append(starts, len(samples)))
    sums: NDArray[np.float64] = np.add.reduceat(squares, starts)
    return sums / lengths


def _smooth_power(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean power around each frame's beginning, over the length of a pause."""
    sums = np.concatenate([[0.0], np.cumsum(power)])
    frames = np.arange(len(power))
    low = np.maximum(frames - _PAUSE_FRAMES // 2, 0)
    high = np.minimum(frames + _PAUSE_FRAMES // 2, len(power))
    # A difference of two sums can be a rounding error below zero.
    means: NDArray[np.float64] = np.maximum(sums[high] - sums[low], 0.0) / (high - low)
    return means


def _find_quietest(smooth: NDArray[np.float64], first: int, last: int) -> int:
    """Return the frame from `first` to `last` at whose beginning it is quietest, the last such.

    `smooth` is what `_smooth_power` returned.
    """
    first = min(first, last)
    span = smooth[first : last + 1]
    quiet = np.flatnonzero(span <= max(span.min() * _EQUALLY_QUIET, _SILENT_POWER))
    return first + int(quiet[-1]) if len(quiet) else last
