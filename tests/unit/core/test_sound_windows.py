"""Cutting long audio at its silences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g4cli.core.sound_windows import split_at_silences

RATE = 16_000


def make_tone(seconds: float) -> np.ndarray:
    return (0.3 * np.sin(np.arange(int(seconds * RATE)) * 0.2)).astype(np.float32)


def make_silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), np.float32)


def split(samples: np.ndarray, rate: int, longest_s: float) -> list[tuple[int, int]]:
    """Return the windows of `samples`, which are given whole and by the second alike."""
    whole = split_at_silences([samples], rate, longest_s)
    seconds = [samples[i : i + rate] for i in range(0, len(samples), rate)]
    assert split_at_silences(seconds, rate, longest_s) == whole
    return whole


def test_a_short_recording_is_one_window() -> None:
    samples = make_tone(12.3)
    assert split(samples, RATE, 30) == [(0, len(samples))]


def test_a_cut_lies_in_the_pause() -> None:
    samples = np.concatenate([make_tone(20), make_silence(0.4), make_tone(20)])
    (_, cut), (start, end) = split(samples, RATE, 30)
    assert cut == start
    assert 20.0 <= cut / RATE <= 20.4
    assert end == len(samples)


def test_the_last_of_several_pauses_is_taken() -> None:
    samples = np.concatenate(
        [make_tone(16), make_silence(0.4), make_tone(9), make_silence(0.4), make_tone(20)]
    )
    first, _ = split(samples, RATE, 30)
    assert 25.4 <= first[1] / RATE <= 25.8


def test_a_pause_beats_a_softer_word() -> None:
    samples = np.concatenate(
        [make_tone(18), make_silence(0.3), make_tone(4), 0.3 * make_tone(1), make_tone(20)]
    )
    first, _ = split(samples.astype(np.float32), RATE, 30)
    assert 18.0 <= first[1] / RATE <= 18.3


def test_without_a_pause_windows_are_as_long_as_they_may_be_at_most() -> None:
    windows = split(make_tone(65), RATE, 30)
    assert windows[0][0] == 0
    assert all(end - start <= 30 * RATE for start, end in windows)
    assert sum(end - start for start, end in windows) == 65 * RATE


def test_silence_is_left_out() -> None:
    samples = np.concatenate([make_silence(40), make_tone(5), make_silence(50)])
    windows = split(samples, RATE, 30)
    assert len(windows) <= 2
    assert any(start <= 40 * RATE < end for start, end in windows)


@pytest.mark.parametrize("n_samples", [0, 1, 319, 320, 321])
def test_tiny_recordings(n_samples: int) -> None:
    windows = split(np.full(n_samples, 0.5, np.float32), RATE, 30)
    assert windows == ([(0, n_samples)] if n_samples else [])


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.floats(0, 9), st.booleans()), max_size=12),
    st.sampled_from([8_000, 16_000, 44_100]),
    st.floats(0.5, 8),
)
def test_windows_cover_all_that_is_audible(
    stretches: list[tuple[float, bool]], rate: int, longest_s: float
) -> None:
    parts = [np.full(int(s * 500), 0.2 * loud, np.float32) for s, loud in stretches]
    samples = np.concatenate([np.zeros(0, np.float32), *parts])
    covered = np.zeros(len(samples), bool)
    last = 0
    for start, end in split(samples, rate, longest_s):
        assert last <= start < end <= len(samples)
        assert end - start <= max(longest_s * rate, rate * 0.02 + 1)
        covered[start:end], last = True, end
    assert not samples[~covered].any()
