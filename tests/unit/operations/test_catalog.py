"""The models that a server offers: what their files say now."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from g4cli.core.errors import FileMissing, UsageError
from g4cli.operations.serving import catalog as catalog_module
from g4cli.operations.serving.catalog import Catalog
from g4cli.operations.serving.pool import ModelPool
from g4cli.operations.serving.service import Service
from g4cli.server.page_routes.models import describe_model
from g4cli.store.manifest import Entry
from tests.support.builders.media_files import write
from tests.support.builders.tiny_file import build_tiny
from tests.support.paths import TESTS

MMPROJ = TESTS / "golden/tiny_mmproj.gguf"


def test_modalities_follow_the_encoder_beside_the_model(tmp_path: Path) -> None:
    model = write(tmp_path / "tiny.gguf", build_tiny())
    catalog = Catalog([str(model)])
    offer = catalog.find("")
    assert catalog.read_facts(offer).modalities == ("text",)
    mmproj = Path(shutil.copy(MMPROJ, tmp_path / "mmproj.gguf"))
    assert catalog.read_facts(offer).modalities == ("text", "image", "audio")
    data = mmproj.read_bytes()
    mmproj.write_bytes(data[:100])  # the same file, no longer an encoder
    assert catalog.read_facts(offer).modalities == ("text",)
    mmproj.unlink()
    assert catalog.read_facts(offer).modalities == ("text",)


def test_the_encoder_that_was_given_counts(tmp_path: Path) -> None:
    model = write(tmp_path / "tiny.gguf", build_tiny())
    catalog = Catalog([str(model)], mmproj=MMPROJ)
    assert catalog.read_facts(catalog.find("")).modalities == ("text", "image", "audio")
    service = Service(catalog, ModelPool(open_model=lambda *_: pytest.fail("nothing is opened")))
    assert describe_model(service, service.find_model(""))["image"]["budgets"][-1] == 1120


def test_facts_follow_the_file(tmp_path: Path) -> None:
    model = write(tmp_path / "tiny.gguf", build_tiny())
    catalog = Catalog([str(model)])
    offer = catalog.find("")
    os.utime(model, (1_000_000_000, 1_000_000_000))
    assert catalog.read_facts(offer).modified == 1_000_000_000
    model.unlink()
    with pytest.raises(FileMissing):
        catalog.read_facts(offer)


def test_an_alias_may_have_the_tag_of_ollama(tmp_path: Path) -> None:
    model = write(tmp_path / "tiny.gguf", build_tiny())
    catalog = Catalog([str(model)], aliases=["llama3:latest", "gpt"])
    for name in ("llama3:latest", "gpt", "gpt:latest", "tiny", "tiny:latest"):
        assert catalog.find(name).path == model


@pytest.mark.parametrize("alias", ["two", "two:latest", "{folder}/two.gguf"])
def test_an_alias_that_would_hide_another_model_is_refused(tmp_path: Path, alias: str) -> None:
    words = [str(write(tmp_path / f"{name}.gguf", build_tiny())) for name in ("one", "two")]
    with pytest.raises(UsageError, match="is the name of another model"):
        Catalog(words, aliases=["gpt", alias.format(folder=tmp_path)])
    assert Catalog(words, aliases=["gpt", "one"]).find("gpt").name == "one"


def test_an_alias_hides_no_model_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alias is for the newest model, which may be another one tomorrow."""
    entries = [
        Entry(name, "bf16", write(tmp_path / f"{name}.gguf", build_tiny()), 1, "", "", "found")
        for name in ("old", "new")
    ]
    monkeypatch.setattr(catalog_module, "list_models", lambda: entries)
    monkeypatch.setattr(catalog_module, "find_newest_model", lambda: entries[1])
    catalog = Catalog(aliases=["gpt", "old:bf16", "old:bf16:latest"])
    for name, model in (("gpt", "new"), ("old:bf16", "old"), ("old:bf16:latest", "old")):
        assert catalog.find(name).path.stem == model


def test_a_file_that_was_deleted_leaves_the_others_on_offer(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.gguf", build_tiny()) for name in ("one", "two")]
    pool = ModelPool(open_model=lambda *_: pytest.fail("nothing is opened"))
    service = Service(Catalog([str(path) for path in paths]), pool)
    paths[0].unlink()
    assert [model.name for model in service.list_models()] == ["two"]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    paths = [tmp_path / folder / "tiny.gguf" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        write(path, build_tiny())
    Catalog([str(paths[0]), str(paths[0])])  # named twice
    with pytest.raises(UsageError, match="would both be called tiny"):
        Catalog([str(path) for path in paths])
