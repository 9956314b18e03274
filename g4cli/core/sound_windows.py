"""Cut long audio into windows at its silences, so that each can be transcribed on its own.

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
_PAUSE_FRAMES: Final = 10
# -60 dB of full scale: below the noise of a quiet room with a usual microphone.
_AUDIBLE_RMS: Final = 1e-3
# Two places whose power differs by less than this part (0.5 dB) are equally quiet: the later wins.
_ALIKE: Final = 1.12


def split_at_silences(
    blocks: Iterable[NDArray[np.float32]], rate: int, longest_s: float
) -> list[tuple[int, int]]:
    """Return the windows of a recording as half-open ranges of sample numbers, in order.

    `blocks`: one channel, float32 in -1 to 1, `rate` a second, in pieces of whole seconds (the last
    one may be shorter), of which one is in memory at a time. No window is longer than `longest_s`
    seconds, none overlaps another, and what lies in no window is inaudible.
    """
    frame = max(1, round(rate * _FRAME_S))
    longest = max(1, int(longest_s * rate) // frame)  # in frames
    powers, n_samples = [np.zeros(0)], 0
    for block in blocks:
        powers.append(_frame_power(block, frame))
        n_samples += len(block)
    power = np.concatenate(powers)
    calm = _smooth(power)
    windows = []
    start = 0
    while start < len(power):
        end = min(start + longest, len(power))
        if end < len(power):
            end = _find_quietest(calm, start + (longest + 1) // 2, end)
        if power[start:end].max() >= _AUDIBLE_RMS**2:
            windows.append((start * frame, min(end * frame, n_samples)))
        start = end
    return windows


def _frame_power(samples: NDArray[np.float32], frame: int) -> NDArray[np.float64]:
    """Return the mean square of each frame; the last frame may be a part of one."""
    starts = np.arange(0, len(samples), frame)
    if not len(starts):
        return np.zeros(0)
    squares = np.square(samples, dtype=np.float64)
    lengths = np.diff(np.append(starts, len(samples)))
    sums: NDArray[np.float64] = np.add.reduceat(squares, starts)
    return sums / lengths


def _smooth(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean power around each frame's beginning, over the length of a pause."""
    sums = np.concatenate([[0.0], np.cumsum(power)])
    at = np.arange(len(power))
    low = np.maximum(at - _PAUSE_FRAMES // 2, 0)
    high = np.minimum(at + _PAUSE_FRAMES // 2, len(power))
    # A difference of two sums can be a rounding error below zero.
    means: NDArray[np.float64] = np.maximum(sums[high] - sums[low], 0.0) / (high - low)
    return means


def _find_quietest(calm: NDArray[np.float64], first: int, last: int) -> int:
    """Return the frame from `first` to `last` at whose beginning it is quietest, the last such."""
    first = min(first, last)
    span = calm[first : last + 1]
    quiet = np.flatnonzero(span <= max(span.min() * _ALIKE, _AUDIBLE_RMS**2 * 1e-2))
    return first + int(quiet[-1]) if len(quiet) else last
