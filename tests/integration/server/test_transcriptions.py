"""POST /v1/audio/transcriptions as OpenAI's own client sees it, with an encoder of random weights.

What is said in the answers means nothing: `tiny` has heard no speech. Times, forms and limits do.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from openai import BadRequestError, NotFoundError, OpenAI

from tests.support.builders.media_files import wav
from tests.support.builders.tiny_file import build_tiny
from tests.support.paths import GOLDEN
from tests.support.run.server import RunningServer, run_server, tiny_options

pytestmark = pytest.mark.slow

RATE = 16000


def make_speech(*seconds: float) -> np.ndarray:
    """Return tones of so many seconds with two seconds of silence between them."""
    silence = np.zeros(2 * RATE, np.float32)
    tones = [0.3 * np.sin(np.arange(int(s * RATE)) * 0.2).astype("f4") for s in seconds]
    return np.concatenate([piece for tone in tones for piece in (tone, silence)][:-1])


SHORT = wav(make_speech(3))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("audio")
    (folder / "tiny.gguf").write_bytes(build_tiny())
    (folder / "mmproj-tiny.gguf").write_bytes((GOLDEN / "tiny_mmproj.gguf").read_bytes())
    with run_server(tiny_options(folder / "tiny.gguf", ctx="2048")) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client:
        yield client


def transcribe(client: OpenAI, data: bytes = SHORT, **fields: Any) -> Any:
    file = ("speech.wav", data)
    return client.audio.transcriptions.create(**{"model": "tiny", "file": file, **fields})


def test_json_and_text(client: OpenAI) -> None:
    answer = transcribe(client)
    assert answer.text
    assert "\n" not in answer.text
    assert answer.usage.seconds == 3
    assert transcribe(client, response_format="text") == answer.text + "\n"
    told = transcribe(client, language="en", prompt="Q4_0", temperature=0.0)
    assert told.text


def test_long_recordings_are_cut_at_silences(client: OpenAI) -> None:
    data = wav(make_speech(20, 20, 5))
    whole = transcribe(
        client, data, response_format="verbose_json", timestamp_granularities=["segment"]
    )
    assert whole.duration == pytest.approx(49)
    first, second = whole.segments
    assert 20 <= first.end == second.start <= 22
    assert second.end == pytest.approx(49)
    srt = transcribe(client, data, response_format="srt")
    assert srt.startswith("1\n00:00:00,000 --> 00:00:2")
    assert "\n\n2\n00:00:2" in srt
    vtt = transcribe(client, data, response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:2")


def test_other_formats_of_recordings(client: OpenAI) -> None:
    packed = io.BytesIO()
    soundfile.write(packed, make_speech(3), RATE, format="mp3")
    assert transcribe(client, packed.getvalue()).text


def test_silence_is_not_given_to_the_model(client: OpenAI, server: RunningServer) -> None:
    before = server.service.counters.answers
    assert transcribe(client, wav(np.zeros(40 * RATE, np.float32))).text == ""
    assert server.service.counters.answers == before


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"timestamp_granularities": ["word"]}, r"timestamp_granularities\[\]"),
        ({"timestamp_granularities": ["segment"]}, "response_format=verbose_json"),
        ({"stream": True}, "stream"),
        ({"include": ["logprobs"]}, r"include\[\]"),
        ({"language": "xx"}, "language: not a language: 'xx'"),
        ({"temperature": 2}, "temperature"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"prompt": "x" * 3000}, "prompt"),
        ({"extra_body": {"speed": "2"}}, "speed: this field is unknown"),
        ({"data": b"no sound"}, "the recording cannot be decoded"),
    ],
)
def test_what_cannot_be_true_is_refused(client: OpenAI, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequestError, match=said) as raised:
        transcribe(client, **fields)
    assert "g4-serve" not in str(raised.value)


def test_an_unknown_model_and_a_form_without_a_file(server: RunningServer, client: OpenAI) -> None:
    with pytest.raises(NotFoundError, match="no model is called"):
        transcribe(client, model="whisper-1")
    url = f"{server.url}/v1/audio/transcriptions"
    answer = httpx.post(url, files={"model": (None, "tiny")}, timeout=60)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
    assert httpx.post(url, json={"model": "tiny"}, timeout=60).status_code == 400


def test_the_path_may_lack_v1(server: RunningServer) -> None:
    url = f"{server.url}/audio/transcriptions"
    answer = httpx.post(url, files={"file": ("speech.wav", SHORT)}, timeout=60)
    assert (answer.status_code, bool(answer.json()["text"])) == (200, True)


def test_no_room_for_temporary_files_is_said(
    server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    url = f"{server.url}/v1/audio/transcriptions"
    answer = httpx.post(url, files={"file": ("speech.wav", SHORT)}, timeout=60)
    assert answer.status_code == 500
    assert "the recording cannot be stored" in answer.json()["error"]["message"]


def test_a_model_that_takes_no_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").write_bytes(build_tiny())
    with run_server(tiny_options(tmp_path / "tiny.gguf")) as server:
        client = OpenAI(base_url=server.openai_url, api_key="none", max_retries=0)
        with pytest.raises(BadRequestError, match="tiny has no audio encoder"), client:
            transcribe(client)
