"""Encoders: weights and scratch against mtmd's own plan, and what they do to the ubatch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from g4cli import LLAMA_CPP_PYTHON
from g4cli.cli.main import run
from g4cli.core.errors import BadGGUF
from g4cli.core.gguf import parse_header, read_header
from g4cli.core.units import MIB
from g4cli.estimate import HOST, Options, estimate_memory, media_bytes
from g4cli.operations.fit.options import add_encoder
from tests.support.builders import real_mmproj, shapes
from tests.support.builders.gguf import Key, build_gguf, tensor_info, write_gguf
from tests.support.paths import TESTS

GOLDEN = TESTS / "golden" / "memory_encoders.json"
WARMUP_TOKENS = 256  # of the image that mtmd plans for when it warms up


def read_golden() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(GOLDEN.read_text())
    return data


@pytest.mark.slow
def test_the_scratch_equals_what_mtmd_plans_for_every_model_and_size(tmp_path: Path) -> None:
    """Five models, images of 256 to 9,216 patches, 30 s of sound; mtmd logs two digits of a MiB."""
    wrong, cells = [], read_golden()["rows"]
    for model, merge, kind, size, mib in cells:
        path = real_mmproj.build(tmp_path / "mmproj.gguf", model, merge=merge)
        found = media_bytes(read_header(path), WARMUP_TOKENS)
        nbytes = found.image if kind == "image" else found.audio
        if model == "12b" and kind == "audio":
            # mtmd warms up with 3,000 frames whatever they are; raw frames of 40 ms make 30 s with
            # 750.
            nbytes = nbytes * size // 750
        if round(nbytes / MIB, 2) != mib:
            wrong.append((model, merge, kind, nbytes / MIB, mib))
    assert not wrong
    assert {row[0] for row in cells} == set(shapes.PUBLISHED)
    assert read_golden()["library"] == LLAMA_CPP_PYTHON


@pytest.mark.parametrize(
    ("model", "published"),
    [("e2b", 986_833_664), ("e4b", 991_552_256), ("12b", 175_115_616), ("26b", 1_194_828_160)],
)
def test_the_weights_are_those_of_the_published_file(
    model: str, published: int, tmp_path: Path
) -> None:
    header = read_header(real_mmproj.build(tmp_path / "mmproj.gguf", model))
    # Their header and the bounds of clipped products are not in these files.
    assert 0 <= published - media_bytes(header).weights < 200_000


def test_a_larger_image_takes_more_and_sound_stays(tmp_path: Path) -> None:
    header = read_header(real_mmproj.build(tmp_path / "mmproj.gguf", "e2b"))
    small, large = media_bytes(header, 280), media_bytes(header)
    assert 3.9 < large.image / small.image < 4.1
    assert small.audio == large.audio > 0


def test_both_senses_are_terms_of_the_estimate(tmp_path: Path) -> None:
    found = media_bytes(read_header(real_mmproj.build(tmp_path / "mmproj.gguf", "e2b")), 280)
    terms = {t.name: t for t in estimate_memory(shapes.E2B, [], Options(4096, media=found)).terms}
    assert (terms["encoder"].nbytes, terms["encoder"].group) == (found.weights, "weights")
    assert (terms["image compute buffer"].nbytes, terms["audio compute buffer"].nbytes) == (
        found.image,
        found.audio,
    )
    eyes = media_bytes(read_header(real_mmproj.build(tmp_path / "mmproj.gguf", "31b")))
    terms = {t.name: t for t in estimate_memory(shapes.G31B, [], Options(4096, media=eyes)).terms}
    assert "audio compute buffer" not in terms
    on_gpu = estimate_memory(
        shapes.G31B, [], Options(4096, media=eyes, n_gpu_layers=-1), ("CUDA0",)
    )
    assert (
        {t.device for t in on_gpu.terms if t.name == "image compute buffer"} == {"CUDA0"} != {HOST}
    )


def test_a_model_is_no_encoder(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "x.gguf", [("general.architecture", "str", "gemma4")])
    with pytest.raises(BadGGUF, match="not an image or audio encoder"):
        media_bytes(read_header(path))


def keys_without(key: str, *more: Key) -> list[Any]:
    return [k for k in real_mmproj.keys_of(1536, real_mmproj.SMALL, None, 3) if k[0] != key] + list(
        more
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            keys_without(
                "clip.vision.projector_type", ("clip.vision.projector_type", "str", "llava")
            ),
            "llava",
        ),
        (
            keys_without(
                "clip.vision.projector_type", ("clip.vision.projector_type", "str", "gemma4a")
            ),
            "'gemma4a' is not that of a vision encoder",
        ),
        (
            keys_without("clip.vision.block_count", ("clip.vision.block_count", "u32", 1 << 30)),
            "out of range",
        ),
        (
            keys_without("clip.vision.patch_size", ("clip.vision.patch_size", "u32", 0)),
            "out of range",
        ),
        (keys_without("clip.vision.embedding_length"), "missing"),
        (keys_without(""), "projection to the language model is missing"),
    ],
)
def test_an_encoder_that_makes_no_sense_is_refused(keys: list[Any], words: str) -> None:
    infos = (
        []
        if "projection" in words
        else [tensor_info("mm.input_projection.weight", 0, (768, 1536), 0)]
    )
    data = build_gguf(keys, infos=infos) + bytes(32 + 768 * 1536 * 4)
    with pytest.raises(BadGGUF, match=words):
        media_bytes(parse_header(data, path="x", file_size=len(data)))


def test_large_networks_need_a_ubatch_that_holds_the_image(tmp_path: Path) -> None:
    path = real_mmproj.build(tmp_path / "mmproj.gguf", "12b")
    assert add_encoder(Options(8192), shapes.G12B, path, 1120).n_ubatch == 1120
    assert add_encoder(Options(8192), shapes.E2B, path, 1120).n_ubatch == 512


@pytest.mark.slow
def test_fit_with_an_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = real_mmproj.build(tmp_path / "mmproj.gguf", "e2b")
    run(["fit", "e2b", "--ctx", "4k", "--json"])
    alone = json.loads(capsys.readouterr().out)
    run(["fit", "e2b", "--ctx", "4k", "--mmproj", str(path), "--image-tokens", "280", "--json"])
    beside = json.loads(capsys.readouterr().out)
    found = media_bytes(read_header(path), 280)
    assert beside["total_bytes"] - alone["total_bytes"] == (
        found.weights + found.image + found.audio + found.work
    )
    # 2,520 patches: 16 x 16 pixels of three F32 each, and 3,072 numbers of BF16.
    assert found.work == 2520 * (4 * 768 + 2 * 3072)


@pytest.mark.parametrize("model", ["12b", "e2b"])
def test_impossible_sizes_are_huge_not_a_crash(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = real_mmproj.keys_of
    odd = {"patch_size", "scale_factor", "embedding_length", "feed_forward_length", "num_mel_bins"}

    def keys_of(*args: Any) -> list[Key]:
        keys = [*honest(*args), ("clip.vision.projector.scale_factor", "u32", 3)]
        return [
            (name, kind, 1 << 20 if name.split(".")[-1] in odd else data)
            for name, kind, data in keys
        ]

    monkeypatch.setattr(real_mmproj, "keys_of", keys_of)
    path = real_mmproj.build(tmp_path / "odd.gguf", model)
    assert media_bytes(read_header(path)).image > 1 << 50
