"""Values are what the file holds: types, bytes, arrays decoded when asked for."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from g4cli.core.gguf import parse_header
from g4cli.core.gguf_values import (
    SCALARS,
    Array,
    Value,
    ValueType,
    array_value,
    bool_value,
    encode_string,
    float32_value,
    int32_value,
    string_value,
    uint32_value,
)
from tests.support.builders.gguf import build_gguf, key, scalar, tag

KINDS = {
    "u8": ValueType.UINT8,
    "i8": ValueType.INT8,
    "u16": ValueType.UINT16,
    "i16": ValueType.INT16,
    "u32": ValueType.UINT32,
    "i32": ValueType.INT32,
    "f32": ValueType.FLOAT32,
    "bool": ValueType.BOOL,
    "u64": ValueType.UINT64,
    "i64": ValueType.INT64,
    "f64": ValueType.FLOAT64,
    "str": ValueType.STRING,
}


def read_back(name: str, kind: str, value: object) -> Value:
    data = build_gguf([key(name, kind, value)])
    header = parse_header(data, path="x", file_size=len(data), load=lambda at, n: data[at : at + n])
    return header.keys[name]


@pytest.mark.parametrize("name", KINDS)
def test_the_numbers_of_types_are_the_formats(name: str) -> None:
    assert KINDS[name] == tag(name)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("u8", 255),
        ("i8", -1),
        ("u32", 7),
        ("u64", 2**63),
        ("i64", -9),
        ("f64", 0.1),
        ("bool", True),
        ("str", "é"),
    ],
)
def test_scalars_encode_as_the_format_says(kind: str, value: object) -> None:
    assert Value(KINDS[kind], value).encode() == scalar(kind, value)  # type: ignore[arg-type]
    assert read_back("k", kind, value).data == value


def test_short_hands() -> None:
    assert (uint32_value(7).type, uint32_value(7).data) == (ValueType.UINT32, 7)
    assert (int32_value(-7).type, int32_value(-7).data) == (ValueType.INT32, -7)
    assert (string_value("x").type, string_value("x").type_name) == (ValueType.STRING, "string")
    assert (bool_value(True).type, bool_value(True).encode()) == (ValueType.BOOL, b"\1")
    assert float32_value(0.1).data == struct.unpack("<f", struct.pack("<f", 0.1))[0] != 0.1
    assert encode_string("é") == struct.pack("<Q", 2) + b"\xc3\xa9" == encode_string(b"\xc3\xa9")
    name = "t\udcff.txt"  # a file name whose last byte is not UTF-8
    assert encode_string(name) == array_value(ValueType.STRING, [name]).encode()[12:]


@pytest.mark.slow
@given(st.lists(st.text(max_size=8), max_size=6))
def test_arrays_of_strings_go_round(items: list[str]) -> None:
    made = array_value(ValueType.STRING, items)
    assert isinstance(made.data, Array)
    assert made.data.tolist() == items
    assert list(made.data.byte_strings()) == [i.encode() for i in items]
    assert (b"" if not items else made.encode()) == (
        b"" if not items else key("", "[str]", items)[12:]
    )
    assert read_back("k", "[str]", items).data == made.data


@pytest.mark.parametrize(
    ("kind", "items"),
    [
        ("u32", [1, 2**32 - 1]),
        ("i32", [-1, 5]),
        ("f32", [0.5, -2.0]),
        ("bool", [True, False]),
        ("i64", [2**40]),
    ],
)
def test_arrays_of_numbers_go_round(kind: str, items: list[float]) -> None:
    made = array_value(KINDS[kind], items)
    assert isinstance(made.data, Array)
    assert made.encode() == key("", f"[{kind}]", items)[12:]
    assert made.data.tolist() == items
    assert made.data.to_numpy().tolist() == items
    assert made.data == array_value(KINDS[kind], np.array(items)).data
    assert made.type_name == f"array of {KINDS[kind].name.lower()}"
    assert hash(made.data) == hash(read_back("k", f"[{kind}]", items).data)


def test_arrays_differ_by_type_and_content() -> None:
    one = array_value(ValueType.INT32, [1, 2]).data
    assert one == array_value(ValueType.INT32, [1, 2]).data
    assert one != array_value(ValueType.INT32, [1, 3]).data
    assert one != array_value(ValueType.UINT32, [1, 2]).data
    assert one != [1, 2]


def test_the_first_items_alone() -> None:
    words = array_value(ValueType.STRING, ["a", "b", "c"]).data
    numbers = array_value(ValueType.INT32, [1, 2, 3]).data
    assert isinstance(words, Array)
    assert isinstance(numbers, Array)
    assert words.first_items(2) == ["a", "b"]
    assert numbers.first_items(2) == [1, 2]
    assert words.first_items(9) == ["a", "b", "c"]


def test_what_has_no_such_form() -> None:
    words = array_value(ValueType.STRING, [b"\xff"]).data
    numbers = array_value(ValueType.INT32, [1]).data
    assert isinstance(words, Array)
    assert isinstance(numbers, Array)
    assert words.tolist() == ["\ufffd"]
    with pytest.raises(TypeError, match="no numpy form"):
        words.to_numpy()
    with pytest.raises(TypeError, match="no strings"):
        list(numbers.byte_strings())


def test_every_scalar_has_a_codec_of_its_size() -> None:
    assert set(SCALARS) == set(ValueType) - {ValueType.STRING, ValueType.ARRAY}
    assert [SCALARS[KINDS[k]].size for k in ("u8", "i16", "f32", "u64", "bool")] == [1, 2, 4, 8, 1]
