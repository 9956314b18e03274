"""Preparing a model: what is refused before it is loaded, and the copy of an SFP8 archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from g4cli.core.errors import BadFile, FileMissing, UsageError
from g4cli.core.gguf import read_header
from g4cli.core.gguf_header import Header
from g4cli.core.paths import cache_dir
from g4cli.core.units import MORE_LAYERS
from g4cli.operations.models import LoadableModel, make_model_options, prepare_model
from g4cli.quant.file import quantize_file
from g4cli.quant.recipes import Recipe
from g4cli.runtime.engine.options import ALL_LAYERS
from tests.support.builders.tiny_file import build_tiny
from tests.support.fakes.reporter import RecordingReporter

MODEL = LoadableModel(Path("m.gguf"), Header("m.gguf", 3, 32, {}, {}, 0, 0), True)


@pytest.mark.slow
def test_a_model_is_ready_as_it_is(tmp_path: Path) -> None:
    reporter = RecordingReporter()
    path = tmp_path / "tiny.gguf"
    path.write_bytes(build_tiny())
    model = prepare_model(str(path), reporter)
    assert model.path == path
    assert model.header.architecture == "gemma4"
    assert reporter.jobs == []


@pytest.mark.slow
def test_an_sfp8_archive_is_expanded_once(tmp_path: Path) -> None:
    source, archive = tmp_path / "tiny.gguf", tmp_path / "tiny-sfp8.gguf"
    source.write_bytes(build_tiny())
    quantize_file(source, archive, recipe=Recipe("sfp8"))
    reporter = RecordingReporter()
    model = prepare_model(str(archive), reporter)
    assert model.path.parent == cache_dir() / "expanded"
    assert model.header.architecture == read_header(model.path).architecture == "gemma4"
    assert "is an SFP8 archive; llama.cpp runs a BF16 copy" in reporter.messages[0]
    assert reporter.jobs == [("expand tiny-sfp8.gguf, only once", "bytes")]
    assert reporter.steps
    again = RecordingReporter()
    assert prepare_model(str(archive), again).path == model.path
    assert again.steps == []


def test_what_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        prepare_model(str(tmp_path / "none.gguf"), RecordingReporter())
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(BadFile):
        prepare_model(str(tmp_path / "text.gguf"), RecordingReporter())


@pytest.mark.parametrize(
    ("text", "n_layers"), [("auto", ALL_LAYERS), ("0", 0), ("12", 12), ("all", MORE_LAYERS)]
)
def test_layers_to_offload(text: str, n_layers: int) -> None:
    assert make_model_options(MODEL, gpu_layers=text).n_gpu_layers == n_layers


@pytest.mark.parametrize("text", ["most", "-1", "²", "9" * 10])
def test_layers_that_are_no_number(text: str) -> None:
    with pytest.raises(UsageError, match="not a number of layers"):
        make_model_options(MODEL, gpu_layers=text)
