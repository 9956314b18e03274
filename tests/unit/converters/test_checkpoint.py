"""Reading safetensors: good files exactly, every lie refused with its place."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g4cli.converters.checkpoint import MAX_HEADER_BYTES, open_checkpoint, read_json, to_float32
from g4cli.core.errors import BadCheckpoint, FileMissing
from tests.support.builders.checkpoints import Entry, bf16, header_of, write_safetensors

GOOD: dict[str, Entry] = {
    "a": ("BF16", [2, 3], bf16([[1, -2, 3], [0.5, 0, -0.0]])),
    "b": ("F32", [4], np.arange(4, dtype=np.float32).tobytes()),
    "c": ("F16", [], np.float16(1.5).tobytes()),
}


def test_arrays_are_exactly_what_lies_in_the_file(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", GOOD)
    checkpoint = open_checkpoint(tmp_path)
    assert list(checkpoint.tensors) == ["a", "b", "c"]
    assert to_float32(checkpoint.map_array("a")).tolist() == [[1, -2, 3], [0.5, 0, 0]]
    assert np.signbit(to_float32(checkpoint.map_array("a"))[1, 2])
    assert to_float32(checkpoint.map_array("b")).tolist() == [0, 1, 2, 3]
    assert to_float32(checkpoint.map_array("c")) == 1.5


def check_refusal(folder: Path, match: str) -> None:
    with pytest.raises(BadCheckpoint, match=match):
        open_checkpoint(folder)


LIES: list[tuple[str, Any, str]] = [
    ("a type that nobody knows", {"a": {"dtype": "Q9"}}, r"tensor a: unknown type 'Q9'"),
    ("no type", {"a": {"dtype": None}}, "unknown type None"),
    ("a negative extent", {"a": {"shape": [-2, 3]}}, "impossible shape"),
    ("a huge extent", {"a": {"shape": [1 << 62, 3]}}, "impossible shape"),
    ("a shape that is no list", {"a": {"shape": 6}}, "impossible shape"),
    ("an extent that is true", {"a": {"shape": [True, 6]}}, "impossible shape"),
    ("many dimensions", {"a": {"shape": [1] * 9}}, "impossible shape"),
    ("an empty tensor", {"a": {"shape": [0, 3], "data_offsets": [0, 0]}}, "it is empty"),
    ("offsets the wrong way", {"a": {"data_offsets": [12, 0]}}, "impossible data_offsets"),
    ("three offsets", {"a": {"data_offsets": [0, 12, 24]}}, "impossible data_offsets"),
    ("too few bytes for the shape", {"a": {"data_offsets": [0, 10]}},
        "takes 12 bytes, data_offsets give 10"),
    ("an overlap", {"b": {"data_offsets": [8, 24]}}, "tensor b overlaps"),
    ("a gap", {"b": {"data_offsets": [16, 32]}, "c": {"data_offsets": [32, 34]}},
        "tensor b follows a gap"),
    ("beyond the end", {"c": {"dtype": "F32", "shape": [9], "data_offsets": [28, 64]}},
        "truncated, 34"),
    ("an entry that is no object", {"a": 7}, "tensor a: its entry is not an object"),
]  # fmt: skip


@pytest.mark.parametrize(("lie", "match"), [row[1:] for row in LIES], ids=[row[0] for row in LIES])
def test_a_header_that_lies_is_check_refusal(lie: Any, match: str, tmp_path: Path) -> None:
    header = header_of(GOOD)
    for name, change in lie.items():
        header[name] = {**header[name], **change} if isinstance(change, dict) else change
    write_safetensors(tmp_path / "model.safetensors", GOOD, header)
    check_refusal(tmp_path, match)


def test_a_long_name_is_refused_before_patterns_are_matched(tmp_path: Path) -> None:
    # The time of the patterns of ignored tensors is quadratic in the length of a name.
    write_safetensors(tmp_path / "model.safetensors", {".rotary_emb." * 100: GOOD["a"]})
    check_refusal(tmp_path, "a name of 1,200 characters")


def test_bytes_after_the_last_tensor_are_check_refusal(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", GOOD)
    path.write_bytes(path.read_bytes() + b"!")
    check_refusal(tmp_path, "1 byte after the last tensor")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "0 bytes are too few"),
        (b"1234567", "7 bytes are too few"),
        (struct.pack("<Q", 1 << 60) + b"{}", "the header claims"),
        (struct.pack("<Q", 3) + b"{}", "the header claims 3 bytes, the file has 2"),
        (struct.pack("<Q", 4) + b"\xff\xfe{}", "not JSON"),
        (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
        (struct.pack("<Q", 9) + b'{"a":NaN}', "not JSON"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "not JSON"),
    ],
)
def test_garbage_is_check_refusal(data: bytes, match: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    check_refusal(tmp_path, match)


def test_a_header_larger_than_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", MAX_HEADER_BYTES + 1))
        file.truncate(MAX_HEADER_BYTES + 100)  # sparse: costs no disk
    check_refusal(tmp_path, "the header has 16,777,217 bytes")


@pytest.mark.slow
@settings(max_examples=150)
@given(at=st.integers(0, 400), new=st.binary(min_size=1, max_size=4))
def test_any_mutation_gives_a_checkpoint_or_an_error(
    at: int, new: bytes, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("mutant")
    path = write_safetensors(folder / "model.safetensors", GOOD)
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at : at + len(new)] = new
    path.write_bytes(bytes(data))
    try:
        checkpoint = open_checkpoint(folder)
    except BadCheckpoint:
        return
    for name, source in checkpoint.tensors.items():
        if source.dtype in ("BF16", "F16", "F32"):
            assert checkpoint.map_array(name).nbytes == source.nbytes


def index(folder: Path, weight_map: Any) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m-1.safetensors", {"b": GOOD["b"]})
    write_safetensors(tmp_path / "m-2.safetensors", {"a": GOOD["a"]})
    index(tmp_path, {"a": "m-2.safetensors", "b": "m-1.safetensors"})
    checkpoint = open_checkpoint(tmp_path)
    assert to_float32(checkpoint.map_array("b")).tolist() == [0, 1, 2, 3]
    assert to_float32(checkpoint.map_array("a"))[0].tolist() == [1, -2, 3]


@pytest.mark.parametrize(
    ("weight_map", "match"),
    [
        ({"a": "m-1.safetensors", "b": "m-9.safetensors"}, "missing shards: m-9.safetensors"),
        ({"a": "m-1.safetensors", "z": "m-1.safetensors"}, "missing: z"),
        ({}, "no weight_map"),
        ({"a": 7}, "is not a string"),
        ({"a": "../m-1.safetensors"}, "shards outside of the folder"),
        ({"a": "/etc/passwd"}, "shards outside of the folder"),
        ({"b": "m-1.safetensors"}, "not in the index: a"),
    ],
)
def test_an_index_that_lies_is_check_refusal(weight_map: Any, match: str, tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m-1.safetensors", {"a": GOOD["a"]})
    index(tmp_path, weight_map)
    check_refusal(tmp_path, match)


def test_a_tensor_in_two_shards_is_check_refusal(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m-1.safetensors", {"a": GOOD["a"]})
    write_safetensors(tmp_path / "m-2.safetensors", {"a": GOOD["a"], "b": GOOD["b"]})
    index(tmp_path, {"a": "m-1.safetensors", "b": "m-2.safetensors"})
    check_refusal(tmp_path, "a is in another shard too")


def test_a_folder_without_tensors_or_none_at_all(tmp_path: Path) -> None:
    check_refusal(tmp_path, "neither model.safetensors nor")
    with pytest.raises(FileMissing):
        open_checkpoint(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    check_refusal(tmp_path / "file", "is not a folder")


def test_json_that_is_absent_or_broken(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json", required=False) == {}
    with pytest.raises(BadCheckpoint, match="not a Hugging Face checkpoint"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b'{"a": 1')
    with pytest.raises(BadCheckpoint, match="not JSON"):
        read_json(tmp_path / "config.json")


def test_half_a_surrogate_pair_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(rb'{"a": "\ud83d\ude00"}')
    assert read_json(tmp_path / "config.json") == {"a": "\U0001f600"}
    (tmp_path / "config.json").write_bytes(rb'{"a": "\ud83d"}')
    with pytest.raises(BadCheckpoint, match="not JSON"):
        read_json(tmp_path / "config.json")
