"""What differs between two headers: named by key and tensor, with both values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from g4cli.cli.main import run
from g4cli.core.gguf import read_header
from g4cli.core.gguf_diff import diff_headers
from tests.support.builders.gguf import F32, build_gguf

KEYS = [("general.name", "str", "a"), ("x.count", "u32", 3), ("x.list", "[u32]", [1, 2, 3])]


def diff_files(
    folder: Path, first: tuple[Any, Any], second: tuple[Any, Any]
) -> list[tuple[str, str, str, str]]:
    paths = []
    for name, (keys, tensors) in (("a", first), ("b", second)):
        path = folder / f"{name}.gguf"
        path.write_bytes(build_gguf(keys, tensors))
        paths.append(path)
    found = diff_headers(read_header(paths[0]), read_header(paths[1]))
    return [(d.kind, d.name, d.first, d.second) for d in found]


def test_equal_files_do_not_differ(tmp_path: Path) -> None:
    file = (KEYS, [("t", F32, [32], bytes(range(128)))])
    assert diff_files(tmp_path, file, file) == []


def test_keys_that_differ_are_named_with_both_values(tmp_path: Path) -> None:
    other = [
        ("general.name", "str", "b"),
        ("x.count", "u32", 3),
        ("x.list", "[u32]", [1, 7, 3]),
        ("y", "bool", True),
    ]
    assert diff_files(tmp_path, (KEYS, []), (other, [])) == [
        ("key", "general.name", "'a'", "'b'"),
        ("key", "x.list", "3 x uint32, [1] = 2", "3 x uint32, [1] = 7"),
        ("key", "y", "", "True"),
    ]


def test_a_key_of_another_type_differs(tmp_path: Path) -> None:
    other = [KEYS[0], ("x.count", "u64", 3), KEYS[2]]
    assert diff_files(tmp_path, (KEYS, []), (other, [])) == [
        ("key", "x.count", "3 (uint32)", "3 (uint64)")
    ]


def test_lists_of_equal_items_differ_by_their_types(tmp_path: Path) -> None:
    first = [("a", "[u32]", []), ("b", "[u32]", [5])]
    second = [("a", "[i32]", []), ("b", "[i32]", [5])]
    assert diff_files(tmp_path, (first, []), (second, [])) == [
        ("key", "a", "0 x uint32", "0 x int32"),
        ("key", "b", "1 x uint32", "1 x int32"),
    ]


def test_tensors_differ_by_presence_and_shape(tmp_path: Path) -> None:
    data = bytes(range(128))
    first = (KEYS, [("a", F32, [32], data), ("b", F32, [32], data), ("c", F32, [32], data)])
    second = (KEYS, [("a", F32, [32], data), ("b", F32, [16, 2], data), ("d", F32, [32], data)])
    assert diff_files(tmp_path, first, second) == [
        ("tensor", "b", "F32 32", "F32 16 x 2"),
        ("tensor", "c", "F32 32", ""),
        ("tensor", "d", "", "F32 32"),
    ]


def test_the_command_shows_the_differences(tmp_path: Path, capsys: Any) -> None:
    values = np.linspace(-1, 1, 64, dtype="<f4").tobytes()
    for name, value in (("a", 1), ("b", 2)):
        keys = [("general.architecture", "str", "gemma4"), ("x.count", "u32", value)]
        (tmp_path / f"{name}.gguf").write_bytes(
            build_gguf(keys, [("t.weight", F32, [32, 2], values)])
        )
    paths = [str(tmp_path / "a.gguf"), str(tmp_path / "b.gguf")]
    assert run(["show", "--diff", *paths]) == 0
    assert "x.count" in capsys.readouterr().out
    assert run(["show", "--diff", *paths, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["differences"]
    assert found == [{"kind": "key", "name": "x.count", "first": "1", "second": "2"}]
