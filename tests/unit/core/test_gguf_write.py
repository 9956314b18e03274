"""What is written is what was announced, byte for byte, or nothing."""

from __future__ import annotations

import errno
import os
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g4cli.core import ggml
from g4cli.core.errors import BadGGUF, NoSpace
from g4cli.core.gguf import parse_header, read_header
from g4cli.core.gguf_values import (
    ValueType,
    array_value,
    bool_value,
    float32_value,
    int32_value,
    string_value,
    uint32_value,
)
from g4cli.core.gguf_write import (
    TensorSpec,
    Written,
    create_gguf,
    encode_header,
)
from tests.support.builders.gguf import F32, Q8_0, build_gguf

KEYS = {
    "general.architecture": string_value("gemma4"),
    "n": uint32_value(7),
    "i": int32_value(-1),
    "x": float32_value(0.5),
    "yes": bool_value(True),
    "words": array_value(ValueType.STRING, ["a", "", "é"]),
    "rows": array_value(ValueType.INT32, [1, 2, 3]),
}
SAME_KEYS = [
    ("general.architecture", "str", "gemma4"),
    ("n", "u32", 7),
    ("i", "i32", -1),
    ("x", "f32", 0.5),
    ("yes", "bool", True),
    ("words", "[str]", ["a", "", "é"]),
    ("rows", "[i32]", [1, 2, 3]),
]
SPECS = [TensorSpec("a", ggml.Q8_0, (64, 3)), TensorSpec("b", ggml.F32, (5,))]
DATA = [bytes(range(204)), bytes(20)]


def write_pieces(path: Path, pieces: list[bytes]) -> Written:
    with create_gguf(path, KEYS, SPECS) as writer:
        for piece in pieces:
            writer.write(piece)
        return writer.finish()


def test_the_file_is_what_an_independent_builder_makes(tmp_path: Path) -> None:
    written = write_pieces(tmp_path / "x.gguf", DATA)
    expected = build_gguf(SAME_KEYS, [("a", Q8_0, (64, 3), DATA[0]), ("b", F32, (5,), DATA[1])])
    assert written.path.read_bytes() == expected
    assert (written.nbytes, written.sha256) == (len(expected), sha256(expected).hexdigest())


def test_gguf_py_reads_it(tmp_path: Path) -> None:
    write_pieces(tmp_path / "x.gguf", DATA)
    reader = gguf.GGUFReader(tmp_path / "x.gguf")
    assert [t.name for t in reader.tensors] == ["a", "b"]
    assert reader.tensors[0].data.tobytes() == DATA[0]
    assert reader.fields["words"].contents() == ["a", "", "é"]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 100), max_size=12))
def test_pieces_may_have_any_size(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    pieces = []
    for data in DATA:
        at = 0
        for size in sizes:
            pieces.append(data[at : at + size])
            at += size
        pieces.append(data[at:])
    path = tmp_path_factory.mktemp("w") / "x.gguf"
    write_pieces(path, [p for p in pieces if p])
    header = read_header(path)
    assert path.read_bytes()[header.file_offset(header.tensors["a"]) :][:204] == DATA[0]


def test_an_alignment_among_the_keys_is_used(tmp_path: Path) -> None:
    keys = {**KEYS, "general.alignment": uint32_value(256)}
    with create_gguf(tmp_path / "x.gguf", keys, SPECS) as writer:
        for data in DATA:
            writer.write(data)
        written = writer.finish()
    header = read_header(written.path)
    assert header.alignment == 256
    assert header.data_offset % 256 == header.tensors["b"].offset % 256 == 0
    assert header.trailing_bytes == 0


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([DATA[0]], "tensor b is incomplete"),
        ([DATA[0], DATA[1][:-1]], "tensor b is incomplete"),
        ([DATA[0] + b"x"], "more bytes"),
        ([*DATA, b"x"], "more bytes"),
    ],
)
def test_a_wrong_count_of_bytes_leaves_nothing(
    tmp_path: Path, pieces: list[bytes], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        write_pieces(tmp_path / "x.gguf", pieces)
    assert os.listdir(tmp_path) == []


def test_arrays_of_numpy_may_be_written(tmp_path: Path) -> None:
    numbers = np.arange(5, dtype=np.float32)
    with create_gguf(tmp_path / "x.gguf", {}, [SPECS[1]]) as writer:
        writer.write(memoryview(numbers))
        writer.finish()
    header = read_header(tmp_path / "x.gguf")
    assert (tmp_path / "x.gguf").read_bytes()[header.data_offset :][:20] == numbers.tobytes()


def test_space_is_checked_first(tmp_path: Path) -> None:
    huge = [TensorSpec("huge", ggml.F32, (1 << 50,))]
    with pytest.raises(NoSpace), create_gguf(tmp_path / "x.gguf", KEYS, huge):
        pass
    assert os.listdir(tmp_path) == []


def test_progress_counts_to_the_whole_file(tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    with create_gguf(
        tmp_path / "x.gguf", KEYS, SPECS, progress=lambda *now: seen.append(now)
    ) as writer:
        for data in DATA:
            writer.write(data)
        nbytes = writer.finish().nbytes
    assert [name for *_, name in seen] == ["a", "b"]
    assert seen[-1][:2] == (nbytes, nbytes)


def test_progress_is_told_within_a_large_tensor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("g4cli.core.gguf_write.REPORT_BYTES", 100)
    seen: list[int] = []
    with create_gguf(
        tmp_path / "x.gguf",
        {},
        SPECS[:1],
        progress=lambda done, *_: seen.append(done),
    ) as writer:
        for byte in DATA[0]:
            writer.write(bytes([byte]))
        nbytes = writer.finish().nbytes
    assert seen[-1] == nbytes
    assert len(seen) >= 3
    assert all(b - a <= 100 + 31 for a, b in pairwise(seen))  # the last step pads


def test_keys_may_change_where_nothing_is_hashed(tmp_path: Path) -> None:
    path, late = tmp_path / "x.gguf", {**KEYS, "n": uint32_value(8)}
    with create_gguf(path, KEYS, SPECS, hashed=False) as writer:
        for data in DATA:
            writer.write(data)
        with pytest.raises(ValueError, match="no longer be changed"):
            writer.change_keys({**KEYS, "words": string_value(100 * "x")})
        writer.change_keys(late)
        written = writer.finish()
    assert written.sha256 == ""
    rows = [("n", "u32", 8) if row[0] == "n" else row for row in SAME_KEYS]
    assert path.read_bytes() == build_gguf(
        rows, [("a", Q8_0, (64, 3), DATA[0]), ("b", F32, (5,), DATA[1])]
    )
    with create_gguf(path, KEYS, SPECS) as writer:
        for data in DATA:
            writer.write(data)
        with pytest.raises(ValueError, match="no longer be changed"):
            writer.change_keys(late)


@pytest.mark.parametrize("when", [1, 2])
def test_a_failed_early_flush_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    """The system reports a failed write once, to the first flush: the last one would succeed."""
    calls = []

    def fail_once(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == when:
            raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("g4cli.core.gguf_write.os.fsync", fail_once)
    monkeypatch.setattr("g4cli.core.gguf_write.FLUSH_BYTES", 1)
    with pytest.raises(NoSpace):
        write_pieces(tmp_path / "x.gguf", [bytes([b]) for b in DATA[0]] + [DATA[1]])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("n_lost", "n_more", "match"), [(1, 0, "differs"), (0, 1, "on disk")])
def test_a_file_that_is_not_as_written_is_not_kept(
    n_lost: int, n_more: int, match: str, tmp_path: Path
) -> None:
    expected = list(SPECS)

    def write_file() -> None:
        with create_gguf(tmp_path / "x.gguf", KEYS, expected) as writer:
            for piece in DATA:
                writer.write(piece)
            del expected[len(expected) - n_lost :]
            writer.nbytes += n_more

    with pytest.raises(BadGGUF, match=match):
        write_file()
    assert os.listdir(tmp_path) == []


def test_a_header_without_tensors() -> None:
    data = encode_header(KEYS, [])
    assert list(parse_header(data, path="x", file_size=len(data)).keys) == list(KEYS)
    assert len(data) % 32 == 0
