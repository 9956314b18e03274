"""Images and sounds in requests, with the encoder of random weights that belongs to `tiny`."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from tests.support.builders.media_files import picture, png, png_lie, sound, wav
from tests.support.builders.tiny_file import build_tiny
from tests.support.paths import GOLDEN
from tests.support.run.server import RunningServer, run_server, tiny_options, wait_until

pytestmark = pytest.mark.slow

PNG = png(picture(48, 48))
WAV = wav(sound(16000))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("media")
    (folder / "tiny.gguf").write_bytes(build_tiny())
    (folder / "mmproj-tiny.gguf").write_bytes((GOLDEN / "tiny_mmproj.gguf").read_bytes())
    with run_server(tiny_options(folder / "tiny.gguf")) as running:
        yield running


def image(data: bytes, kind: str = "png") -> Any:
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": uri}}


def audio(data: bytes) -> Any:
    text = base64.b64encode(data).decode()
    return {"type": "input_audio", "input_audio": {"data": text, "format": "wav"}}


def ask(server: RunningServer, *parts: Any) -> Any:
    content = [*parts, {"type": "text", "text": "What is it?"}]
    with OpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client:
        return client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": content}], max_tokens=3
        )


def test_an_image_and_a_sound_take_tokens_of_the_prompt(server: RunningServer) -> None:
    plain = ask(server).usage.prompt_tokens
    with_image = ask(server, image(PNG)).usage.prompt_tokens
    with_both = ask(server, image(PNG), audio(WAV)).usage.prompt_tokens
    assert plain < with_image < with_both
    again = ask(server, image(PNG), audio(WAV)).usage
    assert again.prompt_tokens_details.cached_tokens > plain, "it is known by its content"


def test_a_model_tells_what_it_takes(server: RunningServer) -> None:
    (model,) = server.service.list_models()
    assert model.modalities == ("text", "image", "audio")


def test_bad_media_are_named_and_nothing_else_is(server: RunningServer) -> None:
    lie = png_lie(60000, 60000)
    for part, what in (
        (image(PNG[:60]), "image 1"),
        (image(lie), "image 1"),
        (image(WAV), "not an image"),
        (audio(PNG), "not a sound"),
        (audio(WAV[:40]), "sound 1"),
    ):
        with pytest.raises(BadRequestError, match=what) as caught:
            ask(server, part)
        assert "g4-serve" not in str(caught.value), "no path of this machine is told"
    assert ask(server, image(PNG)).usage


def test_files_of_requests_are_gone_when_the_requests_are(server: RunningServer) -> None:
    seen: list[int] = []
    media = server.service.media
    store = media.store

    def watched(*args: Any) -> Any:
        stored = store(*args)
        seen.append(stored.path.parent.stat().st_mode & 0o077)
        assert stored.path.is_file()
        return stored

    media.store = watched  # type: ignore[method-assign]
    try:
        ask(server, image(PNG), audio(WAV))
        wait_until(lambda: not media.paths)
        with pytest.raises(BadRequestError, match="not an image"):
            ask(server, image(PNG), image(WAV))  # the first one is stored already
        wait_until(lambda: not media.paths)
    finally:
        media.store = store  # type: ignore[method-assign]
    assert seen == [0, 0, 0], "only the user may read the folder"
    (folder,) = {Path(media._folder.name)} if media._folder else set()
    assert list(folder.iterdir()) == []


def test_limits_are_named(server: RunningServer) -> None:
    too_many = [image(PNG)] * 65
    # A header that declares an hour and more, with room for it: 4,000 bytes a second.
    long_sound = wav(sound(4000 * 3700), rate=4000)
    for parts, what in (
        (too_many, "65 images and sounds; at most 64"),
        ([audio(long_sound)], "is too long: more than 3,600 s of audio"),
        ([image(png_lie(20000, 10))], "image 1"),
        ([image(png_lie(16384, 16384))], "image 1"),
    ):
        with pytest.raises(BadRequestError, match=what) as caught:
            ask(server, *parts)
        assert caught.value.body["param"].startswith("messages"), caught.value.body
