"""Every Gemma 4 variant, both towers and the drafters: equal to llama.cpp's converter, key by key
and byte by byte, and to transformers by logits. What is compared with was recorded by
tests/oracle/compare_convert.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader

from g4cli.converters import convert_checkpoint
from g4cli.core.errors import BadCheckpoint, UsageError
from tests.support.builders import variants
from tests.unit.converters.test_convert import contents

CASES = [(name, part) for name in variants.names() for part in variants.load(name)["gguf"]]
EXPECTED = {
    "gemma-4-12B-it",
    "gemma-4-12B-it-assistant",
    "gemma-4-26B-A4B-it",
    "gemma-4-31B-it-qat-q4_0-unquantized",
    "gemma-4-E2B-it",
    "gemma-4-E2B-it-assistant",
    "gemma-4-E4B",
    "my-finetune",
}


def test_all_variants_are_recorded() -> None:
    assert set(variants.names()) == EXPECTED
    assert len(CASES) == 8 + 5


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("variants")
    return {
        name: variants.write_variant(base / name, variants.load(name)) for name in variants.names()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "part"), CASES)
def test_equal_to_llama_cpp(name: str, part: Any, folders: dict[str, Path], tmp_path: Path) -> None:
    golden = variants.load(name)["gguf"][part]
    done = convert_checkpoint(folders[name], tmp_path / "out.gguf", part=part)
    ours = contents(done.path)
    # Keys and tensors also stand in the same order, except where shards lie in another.
    assert ours["keys"] == golden["keys"]
    data = {t.name: t.data for t in GGUFReader(done.path).tensors}
    mine = {t["name"]: t for t in ours["tensors"]}
    theirs = {t["name"]: t for t in golden["tensors"]}
    assert mine.keys() == theirs.keys()
    for tensor, expected in theirs.items():
        values = expected.pop("values", None)
        if values is not None:  # softplus: torch rounds differently from machine to machine
            distance = np.abs(
                data[tensor].view(np.int32) - np.array(values, np.float32).view(np.int32)
            )
            assert distance.max() <= 1
            del expected["sha256"], mine[tensor]["sha256"]
        assert mine[tensor] == expected


def test_what_is_left_out_has_its_reason(folders: dict[str, Path], tmp_path: Path) -> None:
    def reasons(name: str, part: Any) -> set[str]:
        return set(
            convert_checkpoint(folders[name], tmp_path / "out.gguf", part=part).ignored.values()
        )

    assert reasons("gemma-4-E2B-it", "text") == {
        "vision: g4 convert --mmproj",
        "audio: g4 convert --mmproj",
    }
    assert reasons("gemma-4-E2B-it", "mmproj") == {"text: g4 convert without --mmproj"}
    assert reasons("gemma-4-E2B-it-assistant", "text") == {"an index that llama.cpp does not use"}
    assert reasons("my-finetune", "text") == set()


def test_a_text_only_checkpoint_has_no_mmproj(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no vision_config"):
        convert_checkpoint(folders["my-finetune"], tmp_path / "out.gguf", part="mmproj")


def test_a_tower_that_lacks_a_bound_is_refused(tmp_path: Path) -> None:
    golden = variants.load("gemma-4-E2B-it")
    del golden["checkpoint"]["model.vision_tower.encoder.layers.1.mlp.up_proj.input_max"]
    folder = variants.write_variant(tmp_path / "broken", golden)
    with pytest.raises(
        BadCheckpoint, match=r"missing tensors: vision_tower\.encoder\.layers\.1\.mlp\.up_proj"
    ):
        convert_checkpoint(folder, tmp_path / "out.gguf", part="mmproj")


def test_an_open_bound_may_be_infinite_but_not_nan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = variants.load("gemma-4-E2B-it")
    monkeypatch.setattr(variants, "numbers", _with_nan)
    folder = variants.write_variant(tmp_path / "broken", golden)
    with pytest.raises(
        BadCheckpoint, match=r"not finite.*: .*layers\.0\.self_attn\.q_proj\.output_max$"
    ):
        convert_checkpoint(folder, tmp_path / "out.gguf", part="mmproj")


_numbers = variants.numbers


def _with_nan(name: str, shape: tuple[int, ...]) -> Any:
    values = _numbers(name, shape)
    if name == "model.vision_tower.encoder.layers.0.self_attn.q_proj.output_max":
        assert np.isinf(values)
        values = np.full_like(values, np.nan)
    return values


def test_quantized_types_start_from_the_source_s_own_precision(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    done = convert_checkpoint(folders["gemma-4-E4B"], tmp_path / "out.gguf", plain=None)
    types = {t.name: t.tensor_type.name for t in GGUFReader(done.path).tensors}
    assert types["token_embd.weight"] == "F16"
    assert types["output_norm.weight"] == "F32"
