"""Recordings of all formats, rates and lengths, decoded in a child process."""

from __future__ import annotations

import io
import os
import tempfile
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from g4cli.core.errors import BadMedia, RuntimeFailed
from g4cli.runtime.sound import recording as module
from g4cli.runtime.sound.decode_child import resample
from g4cli.runtime.sound.recording import Recording, decode_recording


def make_tone(seconds: float, rate: int, hertz: float = 440) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype("f4")


def read_samples(recording: Recording) -> np.ndarray:
    return np.frombuffer(recording.pcm.read(), "<i2") / 32767


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rate"), [("wav", 16000), ("flac", 44100), ("mp3", 22050)])
def test_formats_and_rates(tmp_path: Path, kind: str, rate: int) -> None:
    path = tmp_path / f"a.{kind}"
    stereo = np.stack([make_tone(12, rate), make_tone(12, rate)], 1)
    soundfile.write(path, stereo, rate, format=kind)
    with decode_recording(path) as recording:
        assert recording.seconds == pytest.approx(12, abs=0.1)
        middle = read_samples(recording)[16000:176000]
    assert np.abs(np.fft.rfft(middle)).argmax() == pytest.approx(4400, abs=1)  # 440 Hz in 10 s
    assert middle.std() == pytest.approx(0.5 / 2**0.5, abs=0.02)


@pytest.mark.parametrize("rate", [8000, 11027, 48000])
def test_steps_are_joined_without_a_trace(rate: int) -> None:
    tone = make_tone(25.3, rate, 300)
    blocks = (tone[i : i + 7 * rate] for i in range(0, len(tone), 7 * rate))
    found = np.concatenate(list(resample(blocks, rate)))
    assert len(found) == round(len(tone) * 16000 / rate)
    expected = make_tone(len(found) / 16000 + 1, 16000, 300)[: len(found)]
    assert np.abs(found - expected)[800:-800].max() < 0.01


@pytest.mark.parametrize("name", [b"a.raw", b"caf\xe9.wav"])  # no format of its own; no UTF-8
def test_the_name_of_a_recording_does_not_matter(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    with path.open("wb") as file:
        soundfile.write(file, make_tone(1, 16000), 16000, format="wav")
    with decode_recording(path) as recording:
        assert recording.n_samples == 16000


def test_without_room_for_samples_there_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", make_tone(1, 16000), 16000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(RuntimeFailed, match="cannot be decoded"):
        decode_recording(tmp_path / "a.wav")


def test_a_window_is_a_wav_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", make_tone(3, 16000), 16000)
    with (
        decode_recording(tmp_path / "a.wav") as recording,
        wave.open(io.BytesIO(recording.read_wav(16000, 24000))) as file,
    ):
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16000, 1, 8000)
        assert file.readframes(8000) == recording.pcm.read()[32000:48000]


def test_what_was_said_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "t"))
    soundfile.write(tmp_path / "a.wav", make_tone(3, 16000), 16000)
    with decode_recording(tmp_path / "a.wav") as recording:
        assert not list((tmp_path / "t").iterdir())  # while it is read, for SIGKILL leaves it
        assert len(recording.find_windows(30)) == 1
    assert recording.pcm.closed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"RIFF\x00\x00\x00\x00WAVE", "the recording "),
        (b"no sound", "cannot be decoded"),
        (b"", "cannot be decoded"),
    ],
)
def test_what_is_no_recording(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(BadMedia, match=said):
        decode_recording(tmp_path / "a", name="the recording")


@pytest.mark.slow
def test_a_recording_that_is_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SECONDS", 2)
    soundfile.write(tmp_path / "a.wav", make_tone(3, 16000), 16000)
    with pytest.raises(BadMedia, match="is too long"):
        decode_recording(tmp_path / "a.wav")


@pytest.mark.slow
def test_an_hour_takes_no_more_memory_than_a_minute(tmp_path: Path) -> None:
    minute = (make_tone(60, 16000) * 32767).astype("<i2").tobytes()
    peaks = []
    for minutes in (1, 60):
        with (tmp_path / "pcm").open("wb") as file:
            for _ in range(minutes):
                file.write(minute)
        with Recording((tmp_path / "pcm").open("rb"), minutes * 960_000) as recording:
            tracemalloc.start()
            windows = recording.find_windows(30)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert len(windows) >= 2 * minutes
    assert peaks[1] < peaks[0] + (24 << 20)
