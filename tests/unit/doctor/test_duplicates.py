"""Rows and tensors that occur twice in a file, compared with a plain search for equal bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from g4cli.core.gguf import read_header
from g4cli.doctor.diagnose import judge_facts
from g4cli.doctor.facts.duplicates import find_equal_tensors, find_repeated_rows
from g4cli.doctor.facts.gather import gather_facts
from g4cli.doctor.facts.tensor_scan import scan_tensors
from g4cli.doctor.facts.tensor_stats import RepeatedRows
from tests.support.builders.gguf import BF16, F32, build_gguf

WIDTH = 128


def random_matrix(rows: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, WIDTH)).astype("<f4")


def file_of(folder: Path, **tensors: NDArray[np.float32]) -> Path:
    path = folder / "model.gguf"
    parts = [
        (name.replace("_", "."), F32, [WIDTH, len(v)], v.tobytes()) for name, v in tensors.items()
    ]
    path.write_bytes(build_gguf([("general.architecture", "str", "gemma4")], parts))
    return path


def copies_in(path: Path) -> RepeatedRows:
    (stats,) = scan_tensors(read_header(path), full=True)
    return stats.repeated


def test_trained_rows_are_all_different(tmp_path: Path) -> None:
    assert copies_in(file_of(tmp_path, a=random_matrix(5000, 1))) == RepeatedRows(5000)


@pytest.mark.parametrize(
    ("block", "first", "again"), [(8, 0, 8), (8, 100, 900), (200, 2000, 4000), (9, 4991, 0)]
)
def test_a_block_that_comes_back_is_found(
    block: int, first: int, again: int, tmp_path: Path
) -> None:
    values = random_matrix(5000, 2)
    values[again : again + block] = values[first : first + block]
    found = copies_in(file_of(tmp_path, a=values))
    low, high = sorted((first, again))
    assert found == RepeatedRows(5000, block, block, low, high)


def test_a_short_block_and_equal_rows_here_and_there_are_no_block(tmp_path: Path) -> None:
    values = random_matrix(5000, 3)
    values[700:707] = values[300:307]
    values[[20, 4000, 31]] = values[[9, 8, 4500]]
    assert copies_in(file_of(tmp_path, a=values)) == RepeatedRows(5000, 10)


def test_one_content_that_occurs_often_is_no_block(tmp_path: Path) -> None:
    values = random_matrix(5000, 4)
    values[1000:1200] = 0
    values[3000:3200] = values[7]
    assert copies_in(file_of(tmp_path, a=values)) == RepeatedRows(5000, 199 + 200)


def test_the_count_is_that_of_a_plain_search() -> None:
    r = np.random.default_rng(5)
    for _ in range(50):
        hashes = r.integers(0, 300, 200).astype(np.uint64)
        again = len(hashes) - len(set(hashes.tolist()))
        found = find_repeated_rows(hashes, np.arange(200))
        assert (found.rows, found.n_repeated) == (200, again)


def test_rows_with_gaps_between_them_are_not_one_block() -> None:
    hashes = np.array([*range(20), *range(20)], dtype=np.uint64)
    assert find_repeated_rows(hashes, np.arange(40)).block_rows == 20
    # Two samples of a large tensor: rows 0 to 19 and every tenth row from 100 on.
    numbers = np.array([*range(20), *range(100, 300, 10)])
    assert find_repeated_rows(hashes, numbers).block_rows == 0


def test_two_names_for_the_same_bytes(tmp_path: Path) -> None:
    a, b = random_matrix(600, 6), random_matrix(600, 7)
    path = file_of(
        tmp_path, a=a, b=b, c=a, d=np.zeros((600, WIDTH), "<f4"), e=np.zeros((600, WIDTH), "<f4")
    )
    header = read_header(path)
    for full in (False, True):
        assert find_equal_tensors(header, scan_tensors(header, full=full)) == (("a", "c"),)


def test_tensors_that_differ_between_the_samples_are_not_the_same(tmp_path: Path) -> None:
    a = random_matrix(600, 8)
    b = a.copy()
    b.reshape(-1)[100] += 1  # byte 400 of the first 4096
    header = read_header(file_of(tmp_path, a=a, b=b))
    stats = scan_tensors(header, full=True)
    assert stats[0].fingerprint == stats[1].fingerprint
    assert find_equal_tensors(header, stats) == ()


def test_small_tensors_may_agree(tmp_path: Path) -> None:
    a = random_matrix(8, 9)
    header = read_header(file_of(tmp_path, a=a, b=a))
    assert find_equal_tensors(header, scan_tensors(header)) == ()


def test_samples_of_a_large_tensor_are_whole_rows(tmp_path: Path) -> None:
    rows = 30_000
    values = np.random.default_rng(10).integers(0, 2**16, (rows, WIDTH), dtype=np.uint16) & 0x3FFF
    values[20:60] = values[400:440]
    path = tmp_path / "model.gguf"
    path.write_bytes(build_gguf([], [("w", BF16, [WIDTH, rows], values.astype("<u2").tobytes())]))
    (stats,) = scan_tensors(read_header(path))
    assert stats.read < stats.nbytes
    assert (stats.repeated.block_rows, stats.repeated.first, stats.repeated.second) == (40, 20, 400)


def test_the_report_names_both_places(tmp_path: Path) -> None:
    values = random_matrix(3000, 11)
    values[2000:2100] = values[500:600]
    report = judge_facts(gather_facts(file_of(tmp_path, a=values)), ("weights.duplicates",))
    assert report.verdict == "file-damaged"
    assert "100 rows of a" in report.evidence[0]
    assert "from row 2,000 on repeat those from row 500 on" in report.evidence[0]
