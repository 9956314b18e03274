"""Sums of squared activations: the order of the additions, the file, and files that are none."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from g4cli.core.errors import BadFile, BadGGUF, FileMissing
from g4cli.quant.activation_sums import (
    ActivationSums,
    add_squares,
    merge_files,
    read_sums,
    write_sums,
)
from g4cli.quant.imatrix import read_imatrix
from tests.support.builders.gguf import F32, build_gguf

KEYS = [
    ("general.type", "str", "imatrix"),
    ("imatrix.datasets", "[str]", ["a.txt"]),
    ("imatrix.chunk_count", "u32", 1),
    ("imatrix.chunk_size", "u32", 64),
]


def make_sums(seed: int = 0, columns: int = 40) -> ActivationSums:
    rng = np.random.default_rng(seed)
    sums = ActivationSums(64, (f"text-{seed}.txt",))
    for _ in range(3):
        rows = rng.standard_normal((50, columns)).astype(np.float32)
        sums.find_matrix("blk.0.ffn_up.weight", 1, columns).add_rows(0, rows)
        sums.find_matrix("blk.0.ffn_up_exps.weight", 4, columns).add_rows(2, rows)
    return sums


def test_rows_are_added_one_by_one_in_float32() -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((333, 70)).astype(np.float32) * np.float32(1e3)
    expected = np.full(70, np.float32(0.1))
    for row in rows:
        expected += row * row
    total = np.full(70, np.float32(0.1))
    add_squares(total, rows[:100])
    # Rows of a larger table, as llama.cpp has them, are not next to each other.
    wide = np.zeros((233, 96), np.float32)
    wide[:, :70] = rows[100:]
    add_squares(total, wide[:, :70])
    assert np.array_equal(total, expected)


def test_counts_and_experts_that_got_no_row() -> None:
    sums = make_sums()
    assert sums.matrices["blk.0.ffn_up.weight"].counts.tolist() == [150]
    assert sums.matrices["blk.0.ffn_up_exps.weight"].counts.tolist() == [0, 0, 150, 0]
    assert (sums.n_chunks, sums.n_experts, sums.n_unused_experts) == (2, 4, 3)


def test_another_reader_reads_the_file(tmp_path: Path) -> None:
    sums = make_sums()
    write_sums(tmp_path / "i.gguf", sums)
    reader = gguf.GGUFReader(tmp_path / "i.gguf")
    assert [t.name for t in reader.tensors] == [
        "blk.0.ffn_up.weight.in_sum2",
        "blk.0.ffn_up.weight.counts",
        "blk.0.ffn_up_exps.weight.in_sum2",
        "blk.0.ffn_up_exps.weight.counts",
    ]
    assert [t.shape.tolist() for t in reader.tensors] == [[40], [1], [40, 4], [1, 4]]
    assert np.array_equal(reader.tensors[2].data, sums.matrices["blk.0.ffn_up_exps.weight"].sums)
    assert reader.get_field("imatrix.chunk_count").contents() == 2  # type: ignore[union-attr]
    weights = read_imatrix(tmp_path / "i.gguf").weights["blk.0.ffn_up.weight"]
    assert np.array_equal(weights, sums.matrices["blk.0.ffn_up.weight"].sums[0] / np.float32(150))


def test_files_add_up(tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.gguf" for seed in range(2)]
    for seed, path in enumerate(paths):
        write_sums(path, make_sums(seed))
    both, first, second = merge_files(paths), read_sums(paths[0]), read_sums(paths[1])
    assert both.datasets == ("text-0.txt", "text-1.txt")
    for name, matrix in both.matrices.items():
        assert np.array_equal(matrix.sums, first.matrices[name].sums + second.matrices[name].sums)
        assert np.array_equal(matrix.counts, 2 * first.matrices[name].counts)
    write_sums(tmp_path / "other.gguf", make_sums(columns=32))
    with pytest.raises(BadFile, match=r"other\.gguf was made from another model"):
        merge_files([paths[0], tmp_path / "other.gguf"])
    with pytest.raises(BadFile, match="made from another model: they have 40 columns for 64"):
        first.find_matrix("blk.0.ffn_up.weight", 1, 64)


def tensor(name: str, values: list[float], shape: tuple[int, ...]) -> tuple[object, ...]:
    return (name, F32, shape, struct.pack(f"<{len(values)}f", *values))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ([], "not an importance matrix"),
        ([tensor("a.in_sum2", [1, 2], (2,))], "a.counts is missing or not F32"),
        (
            [tensor("a.in_sum2", [1, 2, 3], (3,)), tensor("a.counts", [1, 1], (1, 2))],
            "3 sums for 2 counts",
        ),
        (
            [tensor("a.in_sum2", [1, float("nan")], (2,)), tensor("a.counts", [1], (1,))],
            "no sums of squares",
        ),
        (
            [tensor("a.in_sum2", [1, 2], (2,)), tensor("a.counts", [-1], (1,))],
            "no sums of squares",
        ),
        (
            [tensor("a.in_sum2", [1, 2], (2,)), tensor("a.counts", [1e30], (1,))],
            "no sums of squares",
        ),
    ],
)
def test_files_that_hold_no_sums(
    tensors: list[tuple[object, ...]], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "i.gguf"
    path.write_bytes(build_gguf(KEYS, tensors))  # type: ignore[arg-type]
    with pytest.raises(BadFile, match=message):
        read_sums(path)


@pytest.mark.parametrize(
    "change",
    [
        ("imatrix.datasets", "[u32]", [1]),
        ("imatrix.chunk_count", "u64", 1 << 32),
        ("imatrix.chunk_count", "i32", -1),
        ("imatrix.chunk_size", "u64", 1 << 32),
        ("imatrix.chunk_size", "u32", 0),
    ],
)
def test_keys_that_no_importance_matrix_has(change: tuple[str, str, Any], tmp_path: Path) -> None:
    path = tmp_path / "i.gguf"
    keys = [change if key[0] == change[0] else key for key in KEYS]
    tensors: list[Any] = [tensor("a.in_sum2", [1, 2], (2,)), tensor("a.counts", [1], (1,))]
    path.write_bytes(build_gguf(keys, tensors))
    for read in (read_sums, read_imatrix):
        with pytest.raises(BadFile, match="not an importance matrix"):
            read(path)


def test_counts_beyond_what_float32_holds_exactly_can_be_read_again(tmp_path: Path) -> None:
    sums = make_sums()
    sums.matrices["blk.0.ffn_up.weight"].counts[0] = 3 << 24
    write_sums(tmp_path / "i.gguf", sums)
    assert read_sums(tmp_path / "i.gguf").matrices["blk.0.ffn_up.weight"].counts[0] == 3 << 24


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(struct.pack("<i", 1) + bytes(40))
    message = "only importance matrices in GGUF form can be added up"
    with pytest.raises(BadFile, match=message) as caught:
        read_sums(path)
    assert caught.value.hint == f"llama-imatrix --in-file {path} -o OUT.gguf"
    path.write_bytes(b"GGUF\3\0\0\0")
    with pytest.raises(BadGGUF):
        read_sums(path)
    with pytest.raises(FileMissing):
        read_sums(tmp_path / "nowhere")
