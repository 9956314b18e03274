"""`g4 transcribe` as a command, with an encoder of random weights: what it writes, where, and when.

What is said in the answers means nothing: `tiny` has heard no speech.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from g4cli.cli.main import run as main
from g4cli.core.errors import RuntimeFailed
from g4cli.runtime.engine.async_client import AsyncEngine
from g4cli.runtime.engine.messages import Open
from g4cli.runtime.engine.options import MediaOptions
from tests.support.builders.media_files import wav
from tests.support.builders.tiny_file import build_tiny
from tests.support.paths import GOLDEN

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model that takes audio, and a recording of four windows."""
    folder = tmp_path_factory.mktemp("transcribe")
    (folder / "tiny.gguf").write_bytes(build_tiny())
    (folder / "mmproj-tiny.gguf").write_bytes((GOLDEN / "tiny_mmproj.gguf").read_bytes())
    tone = 0.3 * np.sin(np.arange(22 * 16000) * 0.2).astype("f4")
    pause = np.zeros(16000, np.float32)
    (folder / "a.wav").write_bytes(wav(np.concatenate([tone, pause] * 4)))
    (folder / "b.wav").write_bytes(wav(tone[:48000]))
    return folder


def start(home: Path, folder: Path, *args: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("g4")), "transcribe", *args]
    return subprocess.Popen(
        [*command, "--model", str(folder / "tiny.gguf"), "--threads", "1"],
        cwd=folder,
        env={**os.environ, "G4_HOME": str(home), "G4_FORCE_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(home: Path, folder: Path, *args: str) -> tuple[int, str, str]:
    with start(home, folder, *args) as process:
        out, said = process.communicate(timeout=300)
        return process.returncode, out, said


def test_subtitles_text_and_json_of_several_recordings(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "out"
    status, printed, said = run(
        tmp_path, folder, "a.wav", "b.wav", "--to", "srt", "-o", str(out), "--json"
    )
    assert status == 0, said
    first, second = json.loads(printed)["transcripts"]
    assert [segment["id"] for segment in first["segments"]] == [0, 1, 2, 3]
    assert (out / "a.srt").read_text().count(" --> ") == 4
    assert first["path"] == str(out / "a.srt")
    assert second["duration"] == 3
    again = run(tmp_path, folder, "a.wav", "b.wav", "--to", "srt", "-o", str(out))
    assert (again[0], "already exists" in again[2]) == (2, True)
    assert not list((tmp_path / "state").glob("transcripts/*"))


def test_no_window_is_kept_for_later(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("G4_HOME", str(tmp_path))
    attached: list[MediaOptions] = []

    async def refuse(_request: Open, media: MediaOptions, **_options: object) -> None:
        attached.append(media)
        raise RuntimeFailed("no process")

    monkeypatch.setattr(AsyncEngine, "start", refuse)
    assert main(["transcribe", str(folder / "b.wav"), "--model", str(folder / "tiny.gguf")]) == 7
    assert [media.cache for media in attached] == [False]


def test_a_transcription_that_was_killed_goes_on(tmp_path: Path, folder: Path) -> None:
    def read_saved() -> list[str]:
        files = list(tmp_path.rglob("transcripts/*.jsonl"))
        return files[0].read_text().splitlines() if files else []

    with start(tmp_path, folder, "a.wav") as process:
        deadline = time.monotonic() + 120
        while not read_saved():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    saved = read_saved()
    assert 1 <= len(saved) < 4
    status, printed, said = run(tmp_path, folder, "a.wav")
    assert status == 0
    assert "were transcribed before and are kept" in said
    assert printed.startswith(json.loads(saved[0])["text"])
    assert not read_saved()


def test_what_was_done_of_one_file_outlives_a_failure_at_the_next(
    tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    files = ["b.wav", str(tmp_path / "bad.wav")]
    status, printed, said = run(tmp_path, folder, *files, "--json")
    assert (status, printed) == (5, ""), said
    status, _, said = run(tmp_path, folder, "b.wav")
    assert status == 0, said
    assert "3 of 3 s were transcribed before and are kept" in said
    assert not list(tmp_path.rglob("transcripts/*"))


def test_a_home_that_cannot_be_written_costs_a_warning(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "home").write_bytes(b"")
    status, printed, said = run(tmp_path / "home", folder, "b.wav")
    assert (status, "it cannot be saved" in said) == (0, True), said
    assert printed


@pytest.mark.parametrize(
    ("args", "status", "said"),
    [
        (("none.wav",), 3, "none.wav"),
        (("tiny.gguf",), 5, "cannot be decoded"),
        (("a.wav", "b.wav", "--to", "vtt"), 2, "are not one document"),
        (("a.wav", "--translate", "xx"), 2, "not a language: 'xx'"),
    ],
)
def test_errors(
    tmp_path: Path, folder: Path, args: tuple[str, ...], status: int, said: str
) -> None:
    got, printed, message = run(tmp_path, folder, *args)
    assert (got, printed) == (status, "")
    assert said in message
