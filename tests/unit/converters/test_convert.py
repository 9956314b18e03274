"""The converter against llama.cpp's own and against transformers, on the bundled checkpoint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from g4cli.converters import convert_checkpoint
from g4cli.core import ggml
from g4cli.core.errors import BadCheckpoint, NoSpace, UsageError
from g4cli.core.gguf import read_header
from tests.support.builders.checkpoints import (
    TINY,
    bf16,
    copy_tiny,
    edit_tensors,
    read_tensors,
    shard,
    write_safetensors,
)
from tests.support.paths import GOLDEN


def contents(path: Path) -> dict[str, Any]:
    """Keys and tensors as tests/oracle/record_convert.py writes them, read by gguf-py."""
    reader = GGUFReader(path)
    keys, tensors = [], []
    for name, field in reader.fields.items():
        if name.startswith("GGUF."):
            continue
        types = [kind.name.lower() for kind in field.types]
        value = field.contents()
        if isinstance(value, list) and len(value) > 64:
            text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
            value = {"count": len(value), "sha256": hashlib.sha256(text.encode()).hexdigest()}
        kind = f"array[{types[1]}]" if types[0] == "array" else types[0]
        keys.append({"name": name, "type": kind, "value": value})
    for tensor in reader.tensors:
        tensors.append(
            {
                "name": tensor.name,
                "type": tensor.tensor_type.name,
                "shape": [int(n) for n in tensor.shape],
                "sha256": hashlib.sha256(tensor.data.tobytes()).hexdigest(),
            }
        )
    return {"keys": keys, "tensors": tensors}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["BF16", "F32"])
def test_tiny_equals_llama_cpp_key_by_key_and_tensor_by_tensor(kind: str, tmp_path: Path) -> None:
    golden = json.loads((GOLDEN / "tiny_convert.json").read_text())[kind]
    done = convert_checkpoint(TINY, tmp_path / "out.gguf", plain=ggml.ggml_type(kind))
    ours = contents(done.path)
    assert ours["keys"] == golden["keys"]
    assert ours["tensors"] == golden["tensors"]
    assert done.n_tensors == len(golden["tensors"])
    assert hashlib.sha256(done.path.read_bytes()).hexdigest() == done.sha256
    assert done.path.stat().st_size == done.nbytes


@pytest.mark.slow
def test_shards_give_the_same_file_as_one(tmp_path: Path) -> None:
    one = convert_checkpoint(copy_tiny(tmp_path / "tiny"), tmp_path / "one.gguf")
    shard(tmp_path / "tiny")
    # Shards are read in their order, so tensors lie elsewhere; name by name they are the same.
    many = convert_checkpoint(tmp_path / "tiny", tmp_path / "many.gguf")
    assert sorted(contents(one.path)["tensors"], key=lambda t: t["name"]) == sorted(
        contents(many.path)["tensors"], key=lambda t: t["name"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["F32", "F16"])
def test_sources_of_other_types_round_as_numpy_does(kind: str, tmp_path: Path) -> None:
    folder = copy_tiny(tmp_path / "tiny")
    rng = np.random.default_rng(0)
    wide = rng.standard_normal((64, 256)).astype(np.float32 if kind == "F32" else np.float16)
    name = "model__language_model__layers__0__mlp__gate_proj__weight"
    edit_tensors(folder, **{name: (kind, [64, 256], wide.tobytes())})
    done = convert_checkpoint(folder, tmp_path / "out.gguf")
    tensor = next(t for t in GGUFReader(done.path).tensors if t.name == "blk.0.ffn_gate.weight")
    bits = wide.astype(np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    assert tensor.data.tobytes() == rounded.tobytes()


def test_numbers_that_are_not_finite_are_listed_all_at_once_and_nothing_is_left(
    tmp_path: Path,
) -> None:
    folder = copy_tiny(tmp_path / "tiny")
    edit_tensors(
        folder,
        model__language_model__norm__weight=("BF16", [256], bf16([np.nan] + [1.0] * 255)),
        model__language_model__layers__3__layer_scalar=("BF16", [1], bf16([-np.inf])),
    )
    with pytest.raises(BadCheckpoint, match=r"not finite.*layers.3.layer_scalar.*norm.weight"):
        convert_checkpoint(folder, tmp_path / "out" / "out.gguf")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_value_beyond_f16_is_an_error(tmp_path: Path) -> None:
    folder = copy_tiny(tmp_path / "tiny")
    values = np.zeros((64, 256), np.float32)
    values[5, 7] = 70_000
    name = "model__language_model__layers__0__mlp__gate_proj__weight"
    edit_tensors(folder, **{name: ("F32", [64, 256], values.tobytes())})
    with pytest.raises(BadCheckpoint, match=r"blk.0.ffn_gate.weight .* range of F16"):
        convert_checkpoint(folder, tmp_path / "out.gguf", plain=ggml.F16)
    assert not (tmp_path / "out.gguf").exists()


def test_tensors_missing_unknown_and_of_a_wrong_shape_are_listed_all_at_once(
    tmp_path: Path,
) -> None:
    folder = copy_tiny(tmp_path / "tiny")
    edit_tensors(
        folder,
        model__language_model__norm__weight=None,
        model__language_model__layers__2__self_attn__q_proj__weight=None,
        model__language_model__layers__0__surprise__weight=("BF16", [2], bf16([1, 2])),
        model__language_model__layers__1__layer_scalar=("BF16", [2], bf16([1, 2])),
        model__language_model__layers__4__layer_scalar=("I8", [1], b"\1"),
    )
    with pytest.raises(BadCheckpoint) as caught:
        convert_checkpoint(folder, tmp_path / "out.gguf")
    for part in (
        "missing tensors: norm.weight, layers.2.self_attn.q_proj.weight",
        "unknown tensors: model.language_model.layers.0.surprise.weight",
        "layers.1.layer_scalar is [2], expected [1]",
        "layers.4.layer_scalar has the type I8",
    ):
        assert part in caught.value.message
    assert not (tmp_path / "out.gguf").exists()


def test_towers_in_the_folder_are_left_out_with_a_reason(tmp_path: Path) -> None:
    folder = copy_tiny(tmp_path / "tiny")
    edit_tensors(
        folder, model__vision_tower__patch_embedder__input_proj__weight=("BF16", [2], bf16([1, 2]))
    )
    done = convert_checkpoint(folder, tmp_path / "out.gguf")
    assert done.ignored == {
        "model.vision_tower.patch_embedder.input_proj.weight": "vision: g4 convert --mmproj"
    }


@pytest.mark.slow
def test_keys_and_values_of_shared_layers_may_be_there(tmp_path: Path) -> None:
    # The published E-models hold them, transformers 5 does not write them.
    folder = copy_tiny(tmp_path / "tiny")
    edit_tensors(
        folder,
        model__language_model__layers__5__self_attn__k_proj__weight=(
            "BF16",
            [64, 256],
            bf16(np.ones((64, 256))),
        ),
        model__language_model__layers__5__self_attn__k_norm__weight=(
            "BF16",
            [64],
            bf16(np.ones(64)),
        ),
    )
    done = convert_checkpoint(folder, tmp_path / "out.gguf")
    assert "blk.5.attn_k.weight" in {t.name for t in GGUFReader(done.path).tensors}


def test_no_space_is_found_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1_000_000}))
    with pytest.raises(NoSpace):
        convert_checkpoint(TINY, tmp_path / "out.gguf")
    assert not list(tmp_path.glob("*.gguf*"))


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int, _label: str) -> None:
        assert 0 < done <= total
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_checkpoint(TINY, tmp_path / "out.gguf", progress=stop)
    assert not [p for p in tmp_path.iterdir() if p.is_file()]


def test_only_plain_types_without_a_coder(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        convert_checkpoint(TINY, tmp_path / "out.gguf", plain=ggml.Q4_0)


@pytest.mark.slow
def test_the_folder_names_the_model(tmp_path: Path) -> None:
    folder = copy_tiny(tmp_path / "gemma-4-E2B-it")
    (folder / "README.md").unlink()
    write_safetensors(folder / "model.safetensors", read_tensors(TINY / "model.safetensors"))
    done = convert_checkpoint(folder, tmp_path / "out.gguf")
    keys = {item["name"]: item["value"] for item in contents(done.path)["keys"]}
    assert keys["general.name"] == "Gemma 4 E2B It"


@pytest.mark.slow
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_change_of_a_small_file_gives_a_gguf_or_an_error(
    data: st.DataObject, tmp_path: Path
) -> None:
    """Configs, tokenizers and cards are a stranger's: never a traceback, never a file that does not
    open.
    """
    folder = copy_tiny(tmp_path / "tiny")
    name = data.draw(
        st.sampled_from(
            ["config.json", "tokenizer_config.json", "generation_config.json", "README.md"]
        )
    )
    content = bytearray((folder / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    new = data.draw(
        st.sampled_from([b"", b"9", b"-", b"e99", b'"', b"null", b"[", b"{}", b"\xff", b"\\ud800"])
    )
    content[at : at + data.draw(st.integers(0, 3))] = new
    (folder / name).write_bytes(bytes(content))
    target = tmp_path / "out.gguf"
    try:
        done = convert_checkpoint(folder, target)
    except (BadCheckpoint, UsageError):
        assert not target.exists()
    else:
        assert read_header(done.path).architecture == "gemma4"
        target.unlink()
