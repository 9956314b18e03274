"""Images and sounds: soft tokens against transformers, whole prompts against fresh ones, and bad
files.

The encoder (golden/tiny_mmproj.gguf) has random weights; golden/tiny_media.npz holds what
transformers' towers give for the same picture and sound (tests/oracle/record_media.py).
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from g4cli.cli.main import run
from g4cli.core.errors import BadMedia, FileMissing, Interrupted, RuntimeFailed, UsageError
from g4cli.prompt.messages import Media, Part
from g4cli.runtime.engine.client import EngineClient
from g4cli.runtime.engine.context import Context
from g4cli.runtime.engine.draft_model import DraftModel
from g4cli.runtime.engine.drafting import N_OUTPUTS
from g4cli.runtime.engine.llama_engine import LlamaEngine, open_engine
from g4cli.runtime.engine.media import MediaEncoder
from g4cli.runtime.engine.options import ContextOptions, MediaOptions, ModelOptions, Sampling
from g4cli.runtime.engine.speculation import Drafter, LookupDrafter
from tests.support.builders.draft_file import build_tiny_draft
from tests.support.builders.media_files import (
    add_orientation,
    bmp,
    jpeg_of_blocks,
    picture,
    png,
    sound,
    wav,
    write,
)
from tests.support.builders.tiny_file import build_tiny
from tests.support.paths import GOLDEN

MMPROJ = GOLDEN / "tiny_mmproj.gguf"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write(folder / "tiny.gguf", build_tiny())
    write(folder / "p.png", png(picture(480, 336)))
    write(folder / "p.bmp", bmp(picture(480, 336)))
    write(folder / "other.png", png(picture(336, 480)))
    write(folder / "s.wav", wav(sound(16000)))
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[LlamaEngine]:
    with open_engine(
        folder / "tiny.gguf",
        model_options=ModelOptions(),
        context_options=ContextOptions(n_ctx=1024),
    ) as made:
        made.attach_media(MediaOptions(MMPROJ, image_tokens=70))
        yield made


def soft_tokens(engine: LlamaEngine, tokens: tuple[int, ...]) -> np.ndarray:
    """What the encoder made of the medium in `tokens`: positions x width."""
    assert engine.prompts.media is not None
    first = next(token for token in tokens if token < 0)
    while not engine.prompts.media.prepare_run(first):
        engine.prompts.media.wait(1)
    (run,) = (
        engine.prompts.media._runs[token] for token in tokens if token in engine.prompts.media._runs
    )
    return np.ctypeslib.as_array(run.embeddings).reshape(run.n_tokens, -1)


# Relative distance to transformers (F32), measured: image 0.00605 to 0.00606, sound 0.02366 to
# 0.02369 with ggml built for AMX, AVX-512, AVX2 and SSE. Nearly all of it is llama.cpp's F16, the
# same in all; kernels add 0.00003.
BARS = {"image": 0.02, "audio": 0.05}


@pytest.mark.parametrize(
    ("kind", "name"), [("image", "p.png"), ("image", "p.bmp"), ("audio", "s.wav")]
)
def test_soft_tokens_are_transformers(
    engine: LlamaEngine, folder: Path, kind: Any, name: str
) -> None:
    assert engine.prompts.media is not None
    found = soft_tokens(engine, engine.prompts.media.split(Media(kind, folder / name)).tokens)
    expected = np.load(GOLDEN / "tiny_media.npz")[kind]
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) < BARS[kind] * np.linalg.norm(expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_seen_upright(engine: LlamaEngine, tmp_path: Path, orientation: int) -> None:
    """What the encoder sees of a JPEG with Exif data is what it sees of the upright picture."""
    is_light = np.random.default_rng(1).random((42, 60)) < 0.5
    upright = {
        1: is_light,
        2: np.fliplr(is_light),
        3: np.rot90(is_light, 2),
        4: np.flipud(is_light),
        5: is_light.T,
        6: np.rot90(is_light, -1),  # clockwise
        7: np.rot90(is_light, 2).T,
        8: np.rot90(is_light),
    }[orientation]
    gray = np.kron(np.where(upright, 192, 128), np.ones((8, 8))).astype(np.uint8)
    photo = write(tmp_path / "photo.jpg", add_orientation(jpeg_of_blocks(is_light), orientation))
    picture = write(tmp_path / "upright.png", png(np.stack([gray] * 3, axis=-1)))
    assert engine.prompts.media is not None
    found, expected = (
        soft_tokens(engine, engine.prompts.media.split(Media("image", path)).tokens)
        for path in (photo, picture)
    )
    np.testing.assert_array_equal(found, expected)


def test_a_file_is_encoded_once(engine: LlamaEngine, folder: Path) -> None:
    assert engine.prompts.media is not None
    first = engine.prompts.media.split(Media("image", folder / "p.png")).tokens
    assert engine.prompts.media.split(Media("image", folder / "p.png")).tokens is first
    assert set(engine.prompts.media.split(Media("image", folder / "other.png")).tokens) & set(
        first
    ) <= set(range(800))


@pytest.mark.slow
def test_results_that_take_too_much_are_dropped_oldest_first(folder: Path, tmp_path: Path) -> None:
    with open_engine(
        folder / "tiny.gguf",
        model_options=ModelOptions(),
        context_options=ContextOptions(n_ctx=1024),
    ) as engine:
        engine.attach_media(MediaOptions(MMPROJ))
        media = engine.prompts.media
        assert media is not None
        images = [
            Media("image", write(tmp_path / f"{n}.png", png(picture(480, 336 + n))))
            for n in range(3)
        ]
        for image in images[:2]:
            assert media.encode(image)
        runs = [media.split(image).runs[0] for image in images[:2]]
        assert media.split(images[0]).runs == runs[:1]  # used again: the second is the oldest
        size = runs[0].medium.kept_bytes
        media.kept_bytes = 2 * size
        assert media.encode(images[2])
        assert [run.embeddings is not None for run in runs] == [True, False]
        assert [run.medium.chunks is not None for run in runs] == [True, False]


def test_without_a_cache_the_newest_result_is_kept_alone(folder: Path, engine: LlamaEngine) -> None:
    alone = MediaEncoder(engine.model, MediaOptions(MMPROJ, image_tokens=70, cache=False))
    images = [Media("image", folder / name) for name in ("p.png", "other.png")]
    assert all(alone.encode(image) for image in images)
    assert [medium.kept_bytes > 0 for medium in alone._known.values()] == [False, True]
    alone.close()


@pytest.mark.slow
def test_a_prompt_that_waits_is_answered_whatever_was_dropped(folder: Path, tmp_path: Path) -> None:
    """Its images are split and encoded once more, under the same numbers."""
    with open_engine(
        folder / "tiny.gguf",
        model_options=ModelOptions(),
        context_options=ContextOptions(n_ctx=1024),
    ) as engine:
        engine.attach_media(MediaOptions(MMPROJ, image_tokens=70))
        media = engine.prompts.media
        assert media is not None
        image = Media("image", folder / "p.png")
        prompt = engine.prompts.tokens_of([Part("", media=image), Part("What is it?")])
        assert engine.evaluate(prompt).complete
        expected = engine.context.copy_logits()
        media.kept_bytes = 0
        assert media.encode(Media("image", folder / "other.png"))
        (run,) = media.split(image).runs
        run.medium.drop_results(media._c)
        assert engine.prompts.tokens_of([Part("", media=image), Part("What is it?")]) == prompt
        engine.evaluate([2, 700])
        assert engine.evaluate(prompt).complete
        assert engine.context.copy_logits() == expected
        run.medium.drop_results(media._c)
        gone = write(tmp_path / "gone.png", png(picture(48, 48)))
        lost = engine.prompts.tokens_of([Part("", media=Media("image", gone))])
        media._known[list(media._known)[-1]].drop_results(media._c)
        gone.unlink()
        with pytest.raises(RuntimeFailed, match="has changed or is gone"):
            engine.evaluate(lost)
        engine.evaluate([2, 700])
        assert engine.evaluate(prompt).complete


def test_the_ubatch_holds_an_image(engine: LlamaEngine) -> None:
    """Networks other than E2B and E4B look at an image both ways: llama.cpp aborts if it is cut."""
    assert engine.prompts.media is not None
    assert engine.prompts.media.n_ubatch == 70
    big = MediaEncoder(engine.model, MediaOptions(MMPROJ))
    assert big.n_ubatch == 1120
    big.close()


def test_attaching_makes_the_context_anew(folder: Path) -> None:
    with open_engine(
        folder / "tiny.gguf",
        model_options=ModelOptions(),
        context_options=ContextOptions(n_ctx=2048),
    ) as made:
        made.evaluate([2, 300, 301])
        made.attach_media(MediaOptions(MMPROJ))
        assert made.n_past == 0
        prompt = made.prompts.tokens_of(
            [Part("", media=Media("image", folder / "p.png")), Part("What is it?")]
        )
        assert made.evaluate(prompt).complete


@pytest.mark.slow
@pytest.mark.parametrize("network", [False, True])
def test_speculative_decoding_after_an_image(folder: Path, network: bool) -> None:
    """Attaching an encoder makes the context anew, and with it the drafter."""
    write(folder / "draft.gguf", build_tiny_draft())

    def drafter(context: Context) -> Drafter:
        return (
            DraftModel(folder / "draft.gguf", context, ModelOptions())
            if network
            else LookupDrafter()
        )

    answers = []
    for drafts in (False, True):
        with open_engine(
            folder / "tiny.gguf",
            model_options=ModelOptions(),
            context_options=ContextOptions(n_ctx=2048, n_outputs=N_OUTPUTS),
        ) as made:
            if drafts:
                made.attach_drafter(drafter, "not asked for")
            made.attach_media(MediaOptions(MMPROJ))
            image = Part("", media=Media("image", folder / "p.png"))
            prompt = made.prompts.tokens_of(
                [Part("Look: "), image, Part("la la la la la la la la")]
            )
            made.begin(Sampling(temp=0))
            assert made.evaluate(prompt).complete
            tokens = []
            for _ in range(30):
                tokens.append(made.sample())
                assert made.advance(tokens[-1])
            answers.append(tokens)
            assert (made.drafted is not None) is drafts
            if drafts and network:
                assert made.drafted is not None
                assert made.drafted.n_drafted > 0
    assert answers[0] == answers[1]


class TestReuse:
    """As for text: the scores after reuse must be those of a fresh context.

    Compared on one machine. Measured, relative to the largest score: 0 with four builds of ggml
    (the batches are cut alike), 0.72 for another picture.
    """

    def scores(self, engine: LlamaEngine) -> np.ndarray:
        return np.ctypeslib.as_array(engine.context.get_logits(), (engine.model.n_vocab,)).copy()

    def prompt(self, engine: LlamaEngine, folder: Path, name: str, text: str) -> list[int]:
        return engine.prompts.tokens_of(
            [Part("Look: "), Part("", media=Media("image", folder / name)), Part(text)]
        )

    def fresh(self, engine: LlamaEngine, tokens: list[int]) -> np.ndarray:
        engine.evaluate([2, 700, 701])
        engine.evaluate(tokens)
        return self.scores(engine)

    def test_the_image_stays_in_memory(self, engine: LlamaEngine, folder: Path) -> None:
        first = self.prompt(engine, folder, "p.png", "What is it?")
        second = self.prompt(engine, folder, "p.png", "Which colour?")
        expected = self.fresh(engine, second)
        engine.evaluate([2, 700, 701])
        engine.evaluate(first)
        assert engine.evaluate(second).reused > 70
        assert np.abs(self.scores(engine) - expected).max() < 0.05 * np.abs(expected).max()

    def test_another_image_is_another_prompt(self, engine: LlamaEngine, folder: Path) -> None:
        one = self.prompt(engine, folder, "p.png", "What is it?")
        other = self.prompt(engine, folder, "other.png", "What is it?")
        expected = self.fresh(engine, other)
        engine.evaluate(one)
        before = self.scores(engine)
        engine.evaluate(other)
        found = self.scores(engine)
        assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
        assert np.abs(found - before).max() > 0.05 * np.abs(expected).max(), (
            "the picture must matter"
        )

    def test_a_branch_inside_an_image_starts_before_it(
        self, engine: LlamaEngine, folder: Path
    ) -> None:
        tokens = self.prompt(engine, folder, "p.png", "What is it?")
        start = next(i for i, token in enumerate(tokens) if token < 0)
        engine.evaluate([2, 700, 701])
        engine.evaluate(tokens)
        assert engine.prompts.round_down_to_run(tokens, start + 10) == start
        assert engine.prompts.round_down_to_run(tokens, start) == start
        assert engine.prompts.round_down_to_run(tokens, start + 70) == start + 70


class TestBadFiles:
    @pytest.mark.parametrize(
        ("kind", "name", "data", "said"),
        [
            ("image", "a.png", b"hello", "not an image that g4 reads"),
            ("image", "b.png", png(picture(48, 48))[:60], "damaged"),
            ("image", "c.webp", b"RIFF\0\0\0\0WEBPVP8 ", "not an image that g4 reads"),
            ("audio", "d.wav", b"RIFF\x24\0\0\0WAVEfmt ", "damaged"),
            ("audio", "e.wav", png(picture(48, 48)), "is an image, not a sound"),
            ("image", "f.png", wav(sound(1600)), "is a sound, not an image"),
            ("audio", "g.mp3", b"ID3" + bytes(200), "damaged"),
        ],
    )
    def test_one_clear_error(
        self, engine: LlamaEngine, tmp_path: Path, kind: Any, name: str, data: bytes, said: str
    ) -> None:
        assert engine.prompts.media is not None
        with pytest.raises(BadMedia, match=said):
            engine.prompts.media.split(Media(kind, write(tmp_path / name, data)))

    @pytest.mark.parametrize("sides", [(4000, 40), (40, 4000), (16384, 1), (1, 16384), (2000, 30)])
    def test_narrow_pictures_have_more_positions_than_the_encoder(
        self, engine: LlamaEngine, tmp_path: Path, sides: tuple[int, int]
    ) -> None:
        """The encoder's table has 64 places: the next patch would end the process."""
        assert engine.prompts.media is not None
        path = write(tmp_path / "narrow.png", png(picture(*sides)))
        with pytest.raises(BadMedia, match="too narrow for this encoder"):
            engine.prompts.media.split(Media("image", path))

    @pytest.mark.parametrize(
        "sides", [(100, 100), (96, 130), (1000, 120), (60, 700), (7, 3), (1, 1)]
    )
    def test_small_and_narrow_pictures_fit_the_batch(
        self, engine: LlamaEngine, tmp_path: Path, sides: tuple[int, int]
    ) -> None:
        path = write(tmp_path / "small.png", png(picture(*sides)))
        prompt = engine.prompts.tokens_of([Part("", media=Media("image", path)), Part("What?")])
        assert engine.evaluate(prompt).complete
        assert engine.prompts.media is not None
        assert engine.prompts.media.limits.grid is not None
        columns, rows = engine.prompts.media.limits.grid.count_positions(*sides, 35, 70)
        assert sum(token < 0 for token in prompt) == columns * rows <= 70

    def test_no_file(self, engine: LlamaEngine, tmp_path: Path) -> None:
        assert engine.prompts.media is not None
        with pytest.raises(FileMissing):
            engine.prompts.media.split(Media("image", tmp_path / "none.png"))

    def test_no_encoder(self, folder: Path) -> None:
        with (
            open_engine(
                folder / "tiny.gguf",
                model_options=ModelOptions(),
                context_options=ContextOptions(n_ctx=256),
            ) as made,
            pytest.raises(UsageError, match="no encoder"),
        ):
            made.prompts.tokens_of([Part("", media=Media("image", folder / "p.png"))])

    def test_an_encoder_of_another_model(self, engine: LlamaEngine, folder: Path) -> None:
        with pytest.raises(RuntimeFailed, match="is not an encoder for"):
            MediaEncoder(engine.model, MediaOptions(folder / "tiny.gguf"))

    def test_a_wrong_budget(self, engine: LlamaEngine) -> None:
        with pytest.raises(UsageError, match="70, 140, 280, 560, 1120"):
            MediaEncoder(engine.model, MediaOptions(MMPROJ, image_tokens=100))


class TestCommand:
    @pytest.fixture
    def chat(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> Any:
        monkeypatch.setenv("G4_HOME", str(folder / "home"))
        monkeypatch.setattr("sys.stdin", io.StringIO())

        def call(*args: object) -> tuple[int, str, str]:
            capsys.readouterr()
            fixed = ("-n", "4", "--temp", "0")
            code = run(["chat", str(folder / "tiny.gguf"), *fixed, *map(str, args)])
            return code, *capsys.readouterr()

        return call

    def test_image_and_sound(self, chat: Any, folder: Path) -> None:
        media = ("--image", folder / "p.png", "--audio", folder / "s.wav", "--mmproj", MMPROJ)
        code, out, _ = chat("-p", "What?", *media, "--image-tokens", 70, "--json")
        assert code == 0
        # 70 for the picture, 25 for a second of sound, the rest text.
        assert json.loads(out)["usage"]["prompt_tokens"] > 70 + 25

    @pytest.mark.slow
    def test_interrupted_while_it_is_encoded(
        self, chat: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(_self: EngineClient, _media: Media) -> None:
            raise Interrupted("")

        monkeypatch.setattr(EngineClient, "encode", interrupted)
        code, out, err = chat("-p", "What?", "--image", folder / "p.png", "--mmproj", MMPROJ, "-q")
        assert (code, out, err) == (130, "", "")
        code, out, _ = chat(
            "-p", "What?", "--image", folder / "p.png", "--mmproj", MMPROJ, "--json"
        )
        assert (code, json.loads(out)["finish_reason"]) == (130, "interrupted")

    @pytest.mark.slow
    def test_sound_alone(self, chat: Any, folder: Path) -> None:
        code, out, _ = chat(
            "-p", "What?", "--audio", folder / "s.wav", "--mmproj", MMPROJ, "--json"
        )
        assert (code, json.loads(out)["finish_reason"]) == (0, "length")

    @pytest.mark.slow
    def test_an_encoder_beside_the_model_is_found(self, chat: Any, folder: Path) -> None:
        write(folder / "mmproj-tiny.gguf", MMPROJ.read_bytes())
        assert chat("-p", "What?", "--image", folder / "p.png")[0] == 0
        (folder / "mmproj-tiny.gguf").unlink()

    @pytest.mark.slow
    def test_a_long_sound_is_heard_in_pieces_and_it_is_said(
        self, chat: Any, tmp_path: Path
    ) -> None:
        long = write(tmp_path / "long.wav", wav(sound(16000 * 33)))
        code, _, err = chat("-p", "x", "--audio", long, "--mmproj", MMPROJ)
        assert code == 0
        assert "long.wav is longer than 30 s: it is encoded in 2 pieces" in err

    @pytest.mark.slow
    def test_errors(self, chat: Any, folder: Path) -> None:
        code, _, err = chat("-p", "x", "--image", folder / "p.png")
        assert (code, "--mmproj FILE" in err) == (2, True)
        code, _, err = chat("-p", "x", "--image", folder / "nowhere.png", "--mmproj", MMPROJ)
        assert (code, "no such file" in err) == (3, True)
        code, _, err = chat("-p", "x", "--audio", folder / "p.png", "--mmproj", MMPROJ)
        assert (code, "is an image, not a sound" in err) == (5, True)


class TestCtrlC:
    """While an encoder computes: the user gets the prompt back at once, whatever the encoder is
    busy with.
    """

    @pytest.fixture
    def engine(self, folder: Path) -> Iterator[LlamaEngine]:
        with open_engine(
            folder / "tiny.gguf",
            model_options=ModelOptions(),
            context_options=ContextOptions(n_ctx=1024),
        ) as made:
            yield made

    def test_the_user_does_not_wait_for_the_encoder(
        self, engine: LlamaEngine, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inside, go_on, answers = threading.Event(), threading.Event(), list[bool]()
        real = MediaEncoder.on_operation_done

        def busy(self: MediaEncoder, tensor: int, asks: bool, data: int) -> bool:
            """An operation that takes until the test says so: the first press of Ctrl-C falls into
            it.
            """
            if not asks and not inside.is_set():
                engine.interrupt.set()
                inside.set()
                assert go_on.wait(30)
            answers.append(real(self, tensor, asks, data))
            return answers[-1]

        monkeypatch.setattr(MediaEncoder, "on_operation_done", busy)
        engine.attach_media(MediaOptions(MMPROJ, image_tokens=70))
        assert engine.prompts.media is not None
        photo = Media("image", folder / "p.png")
        assert not engine.prompts.media.encode(photo)
        assert inside.is_set()
        assert engine.prompts.media._background.is_abandoned, (
            "the encoder is still in its operation"
        )
        assert engine.evaluate([2, 300, 301]).complete is False
        engine.interrupt.clear()
        assert engine.evaluate([2, 300, 301]).complete, "text goes on beside it"
        n_answers = len(answers)
        go_on.set()
        # What was stopped left nothing behind, and the encoder works as before.
        assert engine.prompts.media.encode(Media("image", folder / "other.png"))
        assert answers[n_answers] is False, "it stopped after its operation"
        assert engine.prompts.media.encode(photo)
        found = soft_tokens(engine, engine.prompts.media.split(photo).tokens)
        expected = np.load(GOLDEN / "tiny_media.npz")["image"]
        assert np.linalg.norm(found - expected) < BARS["image"] * np.linalg.norm(expected)

    def test_what_goes_wrong_in_the_thread_is_raised(
        self, engine: LlamaEngine, tmp_path: Path
    ) -> None:
        engine.attach_media(MediaOptions(MMPROJ, image_tokens=70))
        assert engine.prompts.media is not None
        bad = write(tmp_path / "bad.png", png(picture(48, 48))[:60])
        for _ in range(2):
            with pytest.raises(BadMedia, match="damaged"):
                engine.prompts.media.encode(Media("image", bad))
