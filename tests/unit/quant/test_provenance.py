"""Keys of a new file: order as llama.cpp leaves them, g4's own at the end."""

from __future__ import annotations

from pathlib import Path

import g4cli
from g4cli.quant.provenance import new_keys
from g4cli.quant.recipes import Recipe
from g4cli.quant.source import Source, open_source
from tests.support.builders.gguf import F32, build_gguf, gemma4_keys


def source(folder: Path, **extra: tuple[str, object]) -> Source:
    path = folder / "in.gguf"
    keys = gemma4_keys(replace={name.replace("__", "."): value for name, value in extra.items()})
    path.write_bytes(build_gguf(keys, [("a.weight", F32, (4,), None)]))
    return open_source(path)


def test_order_and_content(tmp_path: Path) -> None:
    before = source(tmp_path)
    keys = new_keys(before.path, before.keys, Recipe("q4_0"), source_sha256="ab" * 32)
    names = [k for k in before.keys if k != "general.file_type"]
    assert list(keys)[: len(names)] == names
    assert [(k, v.data) for k, v in list(keys.items())[len(names) :]] == [
        ("general.quantization_version", 2),
        ("general.file_type", 2),
        ("g4.version", g4cli.__version__),
        ("g4.recipe", "q4_0"),
        ("g4.source.file", "in.gguf"),
        ("g4.source.sha256", "ab" * 32),
    ]


def test_older_claims_go(tmp_path: Path) -> None:
    before = source(
        tmp_path,
        g4__recipe=("str", "bf16"),
        g4__format=("str", "something"),
    )
    keys = new_keys(before.path, before.keys, Recipe("q8_0"), source_sha256="")
    assert keys["g4.recipe"].data == "q8_0"
    assert "g4.format" not in keys


def test_an_sfp8_label_survives_only_types_that_hold_its_values(tmp_path: Path) -> None:
    before = source(tmp_path, g4__format=("str", "SFP8"), g4__sfp8__encoder=("str", "rne"))
    labels = {
        name: new_keys(before.path, before.keys, Recipe(name), source_sha256="").get("g4.format")
        for name in ("bf16", "f32", "q8_0", "q4_0", "f16")
    }
    assert {k: v.data if v else None for k, v in labels.items()} == {
        "bf16": "SFP8",
        "f32": "SFP8",
        "q8_0": "SFP8 rounded, stored as Q8_0",
        "q4_0": None,
        "f16": None,
    }
