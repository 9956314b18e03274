"""Encoders: exact weights, an approximate scratch worked out by hand, and what they do to the ubatch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import shapes
from builders import BF16, F32, Key, write_gguf

from g4cli.cli.main import run
from g4cli.cli.subjects import with_encoder
from g4cli.core.errors import BadGGUF
from g4cli.core.gguf import read_header
from g4cli.core.units import MIB
from g4cli.estimate import Options, media_bytes


def encoder(path: Path, *extra: Key) -> Path:
    keys: list[Key] = [
        ("general.architecture", "str", "clip"),
        ("clip.has_vision_encoder", "bool", True),
        ("clip.vision.embedding_length", "u32", 768),
        ("clip.vision.feed_forward_length", "u32", 3072),
        ("clip.vision.block_count", "u32", 16),
        *extra,
    ]
    tensors = [
        ("v.position_embd.weight", F32, (768, 4), None),
        ("v.patch_embd.weight", BF16, (768, 32), None),
    ]
    return write_gguf(path, keys, tensors)


def test_weights_are_exact_and_the_scratch_follows_the_image(tmp_path: Path) -> None:
    header = read_header(encoder(tmp_path / "mmproj.gguf"))
    weights, compute = media_bytes(header, 280)
    assert weights == 768 * 4 * 4 + 768 * 32 * 2
    # 2,520 patches; gate, up and product of 3,072, three streams of 768, pixels; 4 bytes.
    assert compute == 2520 * (3 * 3072 + 3 * 768 + 768) * 4
    assert media_bytes(header, 1120)[1] == 4 * compute


@pytest.mark.parametrize(
    ("width", "inner", "layers", "planned_mib"),
    [(768, 3072, 16, 101.27), (1152, 4304, 27, 150.63)],
)
def test_near_what_llama_cpp_plans(
    width: int, inner: int, layers: int, planned_mib: float, tmp_path: Path
) -> None:
    """Logged by mtmd (llama-cpp-python 0.3.36) when it warms up with 768 x 768 pixels, 256 tokens.

    The towers of E2B and 31B, files without weights; flash attention on.
    """
    keys: list[Key] = [
        ("general.architecture", "str", "clip"),
        ("clip.has_vision_encoder", "bool", True),
        ("clip.vision.embedding_length", "u32", width),
        ("clip.vision.feed_forward_length", "u32", inner),
        ("clip.vision.block_count", "u32", layers),
    ]
    header = read_header(write_gguf(tmp_path / "mmproj.gguf", keys))
    assert 0.999 < media_bytes(header, 256)[1] / MIB / planned_mib < 1.07


def test_sound_is_counted_when_it_is_larger(tmp_path: Path) -> None:
    header = read_header(encoder(tmp_path / "mmproj.gguf", ("clip.has_audio_encoder", "bool", True)))
    assert media_bytes(header, 70)[1] == 4 * 2 * 128 * 1500 * 64


def test_a_model_is_no_encoder(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "x.gguf", [("general.architecture", "str", "gemma4")])
    with pytest.raises(BadGGUF, match="no encoder of images"):
        media_bytes(read_header(path))


def test_large_networks_need_a_ubatch_that_holds_the_image(tmp_path: Path) -> None:
    path = encoder(tmp_path / "mmproj.gguf")
    assert with_encoder(Options(8192), shapes.G12B, path, 1120).n_ubatch == 1120
    assert with_encoder(Options(8192), shapes.E2B, path, 1120).n_ubatch == 512


def test_fit_with_an_encoder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = encoder(tmp_path / "mmproj.gguf")
    run(["fit", "e2b", "--ctx", "4k", "--json"])
    alone = json.loads(capsys.readouterr().out)
    run(["fit", "e2b", "--ctx", "4k", "--mmproj", str(path), "--image-tokens", "280", "--json"])
    beside = json.loads(capsys.readouterr().out)
    weights, compute = media_bytes(read_header(path), 280)
    assert beside["total_bytes"] - alone["total_bytes"] == weights + compute
