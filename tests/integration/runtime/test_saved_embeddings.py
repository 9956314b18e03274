"""Embeddings of images and sounds on the disk: a new process encodes nothing that it finds there.

The oracle is the encoder: with what comes back, the model computes what it did with what the
encoder computed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g4cli.prompt.messages import Media, Part
from g4cli.runtime.engine.llama_engine import LlamaEngine
from g4cli.runtime.engine.media import MediaEncoder
from g4cli.runtime.engine.model import Model
from g4cli.runtime.engine.options import ContextOptions, MediaOptions, ModelOptions, StateOptions
from g4cli.runtime.engine.state_cache import StateCache
from g4cli.runtime.llama.interrupt import Interrupt
from tests.support.builders.media_files import picture, png, sound, wav, write
from tests.support.builders.tiny_file import build_tiny
from tests.support.paths import GOLDEN

OPTIONS = MediaOptions(GOLDEN / "tiny_mmproj.gguf", image_tokens=70)
LIMIT = 1 << 30
IMAGE = png(picture(96, 96))


class Machine:
    """A model and a folder of saved states. Each question is asked in a context of its own."""

    def __init__(self, model: Model, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model, self.folder = model, folder
        self.n_encoded = 0
        compute = MediaEncoder.compute_embeddings

        def count_and_compute(encoder: MediaEncoder, run: Any) -> Any:
            self.n_encoded += 1
            return compute(encoder, run)

        monkeypatch.setattr(MediaEncoder, "compute_embeddings", count_and_compute)

    def ask(
        self,
        media: Media,
        options: MediaOptions = OPTIONS,
        *,
        limit: int = LIMIT,
        model_id: str = "tiny",
    ) -> tuple[int, bytes]:
        """How many pieces were encoded for a question about `media`, and the scores after it."""
        before = self.n_encoded
        states = StateOptions(self.folder, limit, model_id, model_id, ram_bytes=1 << 20)
        cache = StateCache(states, self.model, ModelOptions(), "f16")
        cache.is_worthwhile = lambda *_: False  # type: ignore[method-assign]
        engine = LlamaEngine(self.model, ContextOptions(1024), Interrupt())
        engine.use_states(cache)
        engine.attach_media(options)
        assert engine.prompts.media is not None
        try:
            prompt = engine.prompts.tokens_of([Part("", media=media), Part("What is it?")])
            assert engine.evaluate(prompt).complete
            assert cache.finish(20)
            return self.n_encoded - before, engine.context.copy_logits()
        finally:
            engine.close_context()
            engine.prompts.media.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = write(tmp_path_factory.mktemp("embeddings") / "tiny.gguf", build_tiny())
    loaded = Model(path, ModelOptions())
    yield loaded
    loaded.close()


@pytest.fixture
def machine(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(model, tmp_path / "states", monkeypatch)


@pytest.fixture
def image(tmp_path: Path) -> Media:
    return Media("image", write(tmp_path / "p.png", IMAGE))


@pytest.mark.slow
def test_a_picture_is_encoded_once(machine: Machine, image: Media) -> None:
    n_encoded, expected = machine.ask(image)
    assert n_encoded == 1
    assert machine.ask(image) == (0, expected)


def test_a_sound_is_encoded_once(machine: Machine, tmp_path: Path) -> None:
    recording = Media("audio", write(tmp_path / "s.wav", wav(sound(8000))))
    n_encoded, expected = machine.ask(recording)
    assert n_encoded == 1
    assert machine.ask(recording) == (0, expected)


def test_a_picture_is_known_by_its_content(machine: Machine, image: Media, tmp_path: Path) -> None:
    _, expected = machine.ask(image)
    assert machine.ask(Media("image", write(tmp_path / "copy.png", IMAGE))) == (0, expected)
    write(image.path, png(picture(96, 48)))
    n_encoded, scores = machine.ask(image)
    assert n_encoded == 1
    assert scores != expected


@pytest.mark.slow
def test_another_budget_encoder_or_model_encodes_again(
    machine: Machine, image: Media, tmp_path: Path
) -> None:
    machine.ask(image)
    other = tmp_path / "mmproj.gguf"
    shutil.copyfile(OPTIONS.mmproj, other)  # with another date: it may be another file
    for options in (replace(OPTIONS, image_tokens=140), replace(OPTIONS, mmproj=other)):
        assert machine.ask(image, options)[0] == 1
    assert machine.ask(image, model_id="another")[0] == 1


def test_damaged_embeddings_are_removed_and_encoded_again(machine: Machine, image: Media) -> None:
    _, expected = machine.ask(image)
    (path,) = machine.folder.rglob("*.state")
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    assert machine.ask(image) == (1, expected)
    assert machine.ask(image) == (0, expected)


def test_nothing_is_written_where_the_state_cache_is_off(machine: Machine, image: Media) -> None:
    machine.ask(image, limit=0)
    assert machine.ask(image, limit=0)[0] == 1
    assert not machine.folder.exists()
