"""The header reader agrees with gguf-py on good files, and refuses every bad one.

The error names file, offset and field.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g4cli.core.errors import BadGGUF, FileMissing, UsageError
from g4cli.core.gguf import iter_tensor, parse_header, read_header, read_model_header
from g4cli.core.gguf_cursor import HeaderIncomplete, Limits
from g4cli.core.gguf_header import Header
from g4cli.core.gguf_values import Array, ValueType
from tests.support.builders.gguf import (
    BF16,
    F32,
    Q4_0,
    build_gguf,
    gemma4_keys,
    key,
    tensor_info,
    text,
    write_gguf,
)

ARCH = ("general.architecture", "str", "gemma4")
EVERY_KIND: list[Any] = [
    ARCH,
    ("a.u8", "u8", 200),
    ("a.i8", "i8", -5),
    ("a.u16", "u16", 60_000),
    ("a.i16", "i16", -300),
    ("a.u32", "u32", 4_000_000_000),
    ("a.i32", "i32", -70_000),
    ("a.u64", "u64", 2**63 + 1),
    ("a.i64", "i64", -(2**40)),
    ("a.f32", "f32", 0.5),
    ("a.f64", "f64", 1e300),
    ("a.bool", "bool", True),
    ("a.str", "str", "Grüße \n <turn|>"),
    ("a.empty", "str", ""),
    ("b.u32", "[u32]", [1, 2, 3]),
    ("b.i8", "[i8]", [-1, 0, 1]),
    ("b.f32", "[f32]", [0.5, -0.25]),
    ("b.bool", "[bool]", [True, False, True]),
    ("b.str", "[str]", ["", "ab", "é"]),
]
TWO = [
    ("token_embd.weight", Q4_0, (64, 3), bytes(range(108))),
    ("output_norm.weight", F32, (5,), struct.pack("<5f", 1, 2, 3, 4, 5)),
    ("blk.0.ffn_up.weight", BF16, (7, 2, 3), None),
]


def parse_bytes(data: bytes, **options: Any) -> Header:
    return parse_header(data, path="x.gguf", file_size=len(data), **options)


def read_values(header: Header) -> dict[str, Any]:
    return {
        name: value.data.tolist() if isinstance(value.data, Array) else value.data
        for name, value in header.keys.items()
    }


# --- good files -------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_every_kind_of_value_is_read(tmp_path: Path, version: int) -> None:
    header = read_header(write_gguf(tmp_path / "x.gguf", EVERY_KIND, TWO, version))
    assert read_values(header) == {name: value for name, _, value in EVERY_KIND}
    assert header.version == version
    assert header.architecture == "gemma4"


def test_the_reader_agrees_with_gguf_py(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "x.gguf", EVERY_KIND, TWO)
    header, oracle = read_header(path), gguf.GGUFReader(path)
    theirs = {
        name: [v.item() if hasattr(v, "item") else v for v in contents]
        if isinstance(contents := field.contents(), list)
        else contents
        for name, field in oracle.fields.items()
        if not name.startswith("GGUF.")
    }
    assert read_values(header) == theirs
    assert [
        (t.name, t.type.name, t.shape, header.file_offset(t), t.nbytes)
        for t in header.tensors.values()
    ] == [
        (t.name, t.tensor_type.name, tuple(t.shape.tolist()), t.data_offset, t.n_bytes)
        for t in oracle.tensors
    ]
    for ours, other in zip(header.tensors.values(), oracle.tensors, strict=True):
        assert b"".join(iter_tensor(header, ours)) == other.data.tobytes()


@pytest.mark.parametrize("alignment", [8, 32, 64, 4096, 65_536])
def test_alignments_of_powers_of_two(alignment: int) -> None:
    data = build_gguf([ARCH, ("general.alignment", "u32", alignment)], TWO, alignment=alignment)
    header = parse_bytes(data)
    assert header.alignment == alignment
    assert all(header.file_offset(t) % alignment == 0 for t in header.tensors.values())


def test_a_file_of_keys_alone_needs_no_padding() -> None:
    header = parse_bytes(build_gguf([ARCH]))
    assert (header.tensors, header.trailing_bytes) == ({}, 0)


def test_trailing_bytes_are_counted_and_missing_padding_is_fine() -> None:
    assert parse_bytes(build_gguf([ARCH], TWO)).trailing_bytes == 0
    assert parse_bytes(build_gguf([ARCH], TWO, pad_end=False)).trailing_bytes == 0
    assert parse_bytes(build_gguf([ARCH], TWO, trailing=b"x" * 7)).trailing_bytes == 7
    short = build_gguf([ARCH], TWO, pad_end=False)[:-4]
    assert parse_bytes(short, check_data=False).trailing_bytes == -4


def test_arrays_are_loaded_late_and_only_as_asked(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "x.gguf", [ARCH, ("t", "[str]", [f"word {i}" for i in range(1000)])]
    )
    array = read_header(path).keys["t"].data
    assert isinstance(array, Array)
    assert (len(array), array.item_type) == (1000, ValueType.STRING)
    assert array.first_items(2) == ["word 0", "word 1"]
    assert array.tolist()[-1] == "word 999"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadGGUF, match="became shorter"):
        array.tolist()


def test_iter_tensor_yields_whole_rows(tmp_path: Path) -> None:
    header = read_header(write_gguf(tmp_path / "x.gguf", [ARCH], TWO))
    first = header.tensors["token_embd.weight"]
    assert [len(p) for p in iter_tensor(header, first, piece_bytes=80)] == [72, 36]
    assert [len(p) for p in iter_tensor(header, first, piece_bytes=1)] == [36, 36, 36]
    os.truncate(header.path, header.file_offset(first) + 50)
    with pytest.raises(BadGGUF, match="truncated"):
        list(iter_tensor(header, first, piece_bytes=36))


def test_getters_never_invent_a_value() -> None:
    header = parse_bytes(
        build_gguf([ARCH, ("n", "u32", 7), ("yes", "bool", True), ("s", "str", "7")])
    )
    assert header.get("n", int) == 7
    assert header.get("absent", int, 3) == 3
    for name, kind, words in (
        ("absent", int, "missing"),
        ("s", int, "expected int"),
        ("yes", int, "bool"),
    ):
        with pytest.raises(BadGGUF, match=words) as caught:
            header.get(name, kind)
        assert caught.value.field == name
        assert (caught.value.offset is None) == (name == "absent")


# --- bad files, among them the cases of tests/test-gguf.cpp, llama.cpp@0c1e57098 ----------


def claim_array(kind: int, count: int, item: int = 4) -> bytes:
    """Return a key whose array claims `count` items and holds none."""
    return text("big") + struct.pack("<IIQ", kind, item, count)


def build_infos(*entries: bytes, **options: Any) -> bytes:
    return build_gguf([ARCH], infos=entries, **options) + bytes(4096)


F = "general.architecture"
# name, bytes, words of the message, field, offset (None: not pinned)
BATTERY: tuple[tuple[str, bytes, str, str | None, int | None], ...] = (
    # the file is something else
    ("empty", b"", "truncated|not a GGUF|empty", None, None),
    ("one byte", b"G", "not a GGUF", None, 0),
    ("bad magic", build_gguf([ARCH], magic=b"XXXX"), "first 4 bytes are 58 58 58 58", None, 0),
    (
        "git lfs pointer",
        b"version https://git-lfs.github.com/spec/v1\n",
        "Git LFS pointer",
        None,
        0,
    ),
    ("html", b"<!DOCTYPE html><html>", "HTML page", None, 0),
    ("html, lower", b"<html><body>404", "HTML page", None, 0),
    ("json error", b'{"error":"Invalid username or password."}', "JSON error", None, 0),
    ("zip", b"PK\x03\x04rest", "zip archive", None, 0),
    ("ggjt", b"tjgg\x03\0\0\0", "GGJT", None, 0),
    ("big-endian magic", b"FUGG" + bytes(20), "other byte order", None, 0),
    ("zeros", bytes(4096), "zeros", None, 0),
    # preamble
    ("magic alone", b"GGUF", "truncated", None, None),
    ("version 0", build_gguf([ARCH], version=0), "version 0", "version", 4),
    ("version 1", build_gguf([ARCH], version=1), "version 1", "version", 4),
    ("version 4", build_gguf([ARCH], version=4), "version 4", "version", 4),
    ("version swapped", build_gguf([ARCH], version=0x03000000), "big-endian", "version", 4),
    ("n_tensors huge", build_gguf([ARCH], n_tensors=2**62), "claims", "n_tensors", 8),
    ("n_tensors negative", build_gguf([ARCH], n_tensors=-1), "claims", "n_tensors", 8),
    ("n_tensors one more", build_gguf([ARCH], n_tensors=1), "truncated", None, None),
    ("n_kv huge", build_gguf([ARCH], n_kv=2**62), "claims", "n_kv", 16),
    ("n_kv negative", build_gguf([ARCH], n_kv=-1), "claims", "n_kv", 16),
    ("n_kv one more", build_gguf([ARCH], n_kv=2), "truncated", None, None),
    # keys
    (
        "key length 2^40",
        build_gguf([struct.pack("<Q", 2**40)]),
        "claims 1,099,511,627,776",
        None,
        24,
    ),
    ("key length over the limit", build_gguf([("k" * 65_536, "u8", 0)]), "claims 65,536", None, 24),
    ("empty key", build_gguf([("", "u8", 0)]), "key is empty", None, 24),
    ("duplicate key", build_gguf([ARCH, ARCH]), "twice", F, None),
    ("key not utf-8", build_gguf([key(b"\xff\xfe", "u8", 1)]), "not valid UTF-8", None, 32),
    ("value not utf-8", build_gguf([(F, "str", b"ab\xff")]), "not valid UTF-8", None, None),
    (
        "value type 13",
        build_gguf([text("k") + struct.pack("<II", 13, 0)]),
        "unknown value type 13",
        "k",
        33,
    ),
    (
        "value type 2^32-1",
        build_gguf([text("k") + struct.pack("<I", 2**32 - 1)]),
        "unknown value",
        "k",
        33,
    ),
    ("bool 2", build_gguf([text("k") + struct.pack("<IB", 7, 2)]), "neither 0 nor 1", "k", None),
    (
        "bool 2 in an array",
        build_gguf([claim_array(9, 3, 7) + b"\0\2\1"]),
        "neither 0 nor 1",
        "big",
        None,
    ),
    (
        "string length past the end",
        build_gguf([text("k") + struct.pack("<IQ", 8, 50)]),
        "truncated",
        None,
        None,
    ),
    (
        "string of 2^63",
        build_gguf([text("k") + struct.pack("<IQ", 8, 2**63)]),
        "claims",
        None,
        None,
    ),
    (
        "array of 2^28 strings",
        build_gguf([claim_array(9, 2**28, 8)]),
        "claims 268,435,456 items",
        "big",
        43,
    ),
    (
        "array of 2^28 bytes",
        build_gguf([claim_array(9, 2**28, 0)]),
        "claims 268,435,456 items",
        "big",
        43,
    ),
    ("array of 2^64-1 doubles", build_gguf([claim_array(9, 2**64 - 1, 12)]), "items", "big", 43),
    (
        "array item string too long",
        build_gguf([claim_array(9, 1, 8) + struct.pack("<Q", 2**50)]),
        "claims",
        "big",
        None,
    ),
    (
        "array cut inside a string",
        build_gguf([claim_array(9, 1, 8) + struct.pack("<Q", 9) + b"abc"]),
        "truncated",
        None,
        None,
    ),
    (
        "array cut before a string",
        build_gguf([claim_array(9, 2, 8) + text("abcdefgh")]),
        "truncated",
        None,
        None,
    ),
    (
        "array of unknown type",
        build_gguf([claim_array(9, 1, 13)]),
        "unknown value type 13",
        "big",
        39,
    ),
    (
        "nested array",
        build_gguf([claim_array(9, 1, 9) + struct.pack("<IQ", 0, 0)]),
        "nested",
        "big",
        39,
    ),
    # alignment
    *(
        (
            f"alignment {n}",
            build_gguf([ARCH, ("general.alignment", "u32", n)]),
            "power of two",
            "general.alignment",
            None,
        )
        for n in (0, 1, 4, 24, 31, 131_072, 2**31)
    ),
    (
        "alignment a string",
        build_gguf([("general.alignment", "str", "32")]),
        "expected uint32",
        "general.alignment",
        24,
    ),
    (
        "alignment uint64",
        build_gguf([("general.alignment", "u64", 32)]),
        "expected uint32",
        "general.alignment",
        24,
    ),
    # tensors
    ("tensor without a name", build_infos(tensor_info("", F32, (4,), 0)), "no name", None, None),
    (
        "tensor name of 64",
        build_infos(tensor_info("n" * 64, F32, (4,), 0)),
        "claims 64",
        None,
        None,
    ),
    (
        "tensor name not utf-8",
        build_infos(tensor_info(b"\xc3", F32, (4,), 0)),
        "not valid UTF-8",
        None,
        None,
    ),
    (
        "duplicate tensor",
        build_infos(tensor_info("t", F32, (8,), 0), tensor_info("t", F32, (8,), 32)),
        "twice",
        "t",
        None,
    ),
    ("no dimension", build_infos(tensor_info("t", F32, (), 0)), "0 dimensions", "t", None),
    ("nine dimensions", build_infos(tensor_info("t", F32, (1,) * 9, 0)), "9 dimensions", "t", None),
    (
        "2^32-1 dimensions",
        build_infos(text("t") + struct.pack("<I", 2**32 - 1)),
        "dimensions",
        "t",
        None,
    ),
    ("extent 0", build_infos(tensor_info("t", F32, (4, 0), 0)), "impossible shape", "t", None),
    (
        "extent negative",
        build_infos(tensor_info("t", F32, (4, -1), 0)),
        "impossible shape",
        "t",
        None,
    ),
    (
        "extent 2^63-1",
        build_infos(tensor_info("t", F32, (2**63 - 1,), 0)),
        "truncated|beyond",
        "t",
        None,
    ),
    (
        "product overflows",
        build_infos(tensor_info("t", F32, (2**32, 2**32, 2), 0)),
        "impossible shape",
        "t",
        None,
    ),
    (
        "bytes overflow 64 bits",
        build_infos(tensor_info("t", 28, (2**62,), 0)),
        "truncated|beyond",
        "t",
        None,
    ),
    ("type 999", build_infos(tensor_info("t", 999, (4,), 0)), "unknown tensor type 999", "t", None),
    (
        "removed type 4",
        build_infos(tensor_info("t", 4, (32,), 0)),
        "unknown tensor type 4",
        "t",
        None,
    ),
    (
        "removed type 36",
        build_infos(tensor_info("t", 36, (32,), 0)),
        "unknown tensor type 36",
        "t",
        None,
    ),
    (
        "row cuts a block",
        build_infos(tensor_info("t", Q4_0, (33,), 0)),
        "multiple of the Q4_0 block size",
        "t",
        None,
    ),
    (
        "offset misaligned",
        build_infos(tensor_info("t", F32, (4,), 1)),
        "offset 1, expected 0",
        "t",
        None,
    ),
    (
        "offset shifted by 32",
        build_gguf([ARCH], TWO, offsets={TWO[1][0]: 160}),
        "expected 128",
        TWO[1][0],
        None,
    ),
    (
        "offset overlaps",
        build_gguf([ARCH], TWO, offsets={TWO[1][0]: 0}),
        "expected 128",
        TWO[1][0],
        None,
    ),
    (
        "offset 2^64-32",
        build_infos(tensor_info("t", F32, (4,), 2**64 - 32)),
        "expected 0",
        "t",
        None,
    ),
    (
        "data cut",
        build_gguf([ARCH], TWO, pad_end=False, cut=-1),
        "last 1 byte is missing",
        TWO[2][0],
        None,
    ),
    ("data absent", build_gguf([ARCH], TWO)[: -(128 + 32 + 96)], "truncated", TWO[0][0], None),
)


@pytest.mark.parametrize(
    ("data", "words", "field", "offset"), [c[1:] for c in BATTERY], ids=[c[0] for c in BATTERY]
)
def test_every_malformed_file_is_refused_by_name(
    tmp_path: Path, data: bytes, words: str, field: str | None, offset: int | None
) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    with pytest.raises(BadGGUF, match=words) as caught:
        read_header(path)
    err = caught.value
    assert str(path) in err.message
    assert err.hint
    if field is not None:
        assert err.field == field
    if offset is not None:
        assert err.offset == offset
    if data:
        assert err.offset is not None


@pytest.mark.slow
def test_every_cut_of_a_header_is_refused_at_once() -> None:
    data = build_gguf(EVERY_KIND, TWO)
    header = parse_bytes(data)
    for size in range(len(data) - 31):
        if size >= header.data_end:
            continue
        with pytest.raises(BadGGUF):
            parse_bytes(data[:size])


def test_a_header_still_arriving_says_how_much_it_needs() -> None:
    data = build_gguf(EVERY_KIND, TWO)
    sizes = [4]
    while sizes[-1] < len(data):
        try:
            header = parse_header(data[: sizes[-1]], path="hf:x", file_size=len(data))
        except HeaderIncomplete as err:
            sizes.append(err.needed)
        else:
            break
    assert len(header.keys) == len(EVERY_KIND)
    assert sizes == sorted(set(sizes))  # every round asks for more
    assert sizes[-1] <= len(data)


def test_a_header_may_not_go_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "HEADER_BYTES", 4096)
    for entry in (
        ("long", "[u8]", bytes(8192)),
        ("words", "[str]", [""] * 1024),
        ("s", "str", "x" * 5000),
    ):
        with pytest.raises(BadGGUF, match="longer than 4,096 bytes"):
            parse_bytes(build_gguf([ARCH, entry]))


def test_what_is_no_file_at_all(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, error in (
        (tmp_path, UsageError),
        (tmp_path / "absent.gguf", FileMissing),
        (tmp_path / "pipe", UsageError),
        (Path("/dev/zero"), UsageError),
    ):
        with pytest.raises(error):
            read_header(path)


# --- properties -------------------------------------------------------------------------

GOOD = build_gguf(EVERY_KIND, TWO)


def assert_survives(data: bytes) -> None:
    """A Header or a BadGGUF, and everything a Header offers can be read."""
    try:
        header = parse_bytes(data, load=lambda offset, n: data[offset : offset + n])
    except BadGGUF:
        return
    for value in header.keys.values():
        assert value.type_name
        if isinstance(value.data, Array):
            assert len(value.data.tolist()) == len(value.data)
    for tensor in header.tensors.values():
        assert header.file_offset(tensor) + tensor.nbytes <= len(data)


@pytest.mark.slow
@settings(max_examples=400)
@given(st.data())
def test_any_change_of_bytes_gives_a_header_or_bad_gguf(data: st.DataObject) -> None:
    changed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] = data.draw(st.integers(0, 255) | st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]))
    assert_survives(bytes(changed))


@pytest.mark.slow
@settings(max_examples=200)
@given(
    st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.binary(max_size=24), st.integers(0, 40)
)
def test_any_splice_gives_a_header_or_bad_gguf(
    start: int, cut: int, piece: bytes, dropped: int
) -> None:
    assert_survives(GOOD[:start] + piece + GOOD[start + dropped :])
    assert_survives(GOOD[:start] + GOOD[cut:])


@pytest.mark.slow
@settings(max_examples=200)
@given(
    st.integers(0, len(GOOD) - 8),
    st.sampled_from([0, 1, 7, 2**16, 2**31, 2**32, 2**40, 2**63, 2**64 - 1]),
)
def test_any_wrong_length_gives_a_header_or_bad_gguf(at: int, number: int) -> None:
    assert_survives(GOOD[:at] + struct.pack("<Q", number) + GOOD[at + 8 :])


@settings(max_examples=100)
@given(st.binary(max_size=400))
def test_any_bytes_after_the_magic_give_a_header_or_bad_gguf(tail: bytes) -> None:
    assert_survives(b"GGUF\3\0\0\0" + tail)


@pytest.mark.slow
def test_a_hostile_count_costs_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Limits, "HEADER_BYTES", 16 << 20
    )  # an eighth of the real limit, of its time too
    path = tmp_path / "x.gguf"
    path.write_bytes(build_gguf([claim_array(9, 2**28, 8)]))
    os.truncate(path, 2**33)  # sparse: the count is now within the file, every string is empty
    started = time.process_time()
    with pytest.raises(BadGGUF, match="longer than"):
        read_header(path)
    assert time.process_time() - started < 5


@pytest.mark.slow
@pytest.mark.requires_vocab
def test_the_real_vocabulary_agrees_with_itself_by_another_reader(vocab_file: Path) -> None:
    """The token list against a walk of the raw bytes, written here."""
    data = vocab_file.read_bytes()
    at = data.index(text("tokenizer.ggml.tokens")) + len(text("tokenizer.ggml.tokens")) + 16
    expected = []
    for _ in range(262_144):
        (n,) = struct.unpack_from("<Q", data, at)
        expected.append(data[at + 8 : at + 8 + n].decode("utf-8", "replace"))
        at += 8 + n
    array = read_header(vocab_file).keys["tokenizer.ggml.tokens"].data
    assert isinstance(array, Array)
    assert array.tolist() == expected


@pytest.mark.parametrize("part", ["key", "tensor"])
def test_names_with_nul_are_refused(tmp_path: Path, part: str) -> None:
    keys = gemma4_keys() + ([("a\0b", "u32", 1)] if part == "key" else [])
    tensors = [("t\0u", 0, (32,), None)] if part == "tensor" else []
    with pytest.raises(BadGGUF, match="holds a NUL byte"):
        read_header(write_gguf(tmp_path / "x.gguf", keys, tensors))


def test_a_split_model_has_the_tensors_of_all_its_parts(tmp_path: Path) -> None:
    paths = [tmp_path / f"m-{number:05d}-of-00003.gguf" for number in (1, 2, 3)]
    tensors: list[Any] = [[], [("a", F32, (4,), None)], [("b", F32, (8,), None)]]
    for number, (path, held) in enumerate(zip(paths, tensors, strict=True)):
        keys = [ARCH, ("split.no", "u16", number), ("split.count", "u16", 3)]
        path.write_bytes(build_gguf(keys, held))
    assert sorted(read_model_header(paths[0]).tensors) == ["a", "b"]
    assert sorted(read_model_header(paths[1]).tensors) == ["a"]
    alone = paths[0].rename(tmp_path / "m.gguf")
    assert not read_model_header(alone).tensors
    alone.rename(paths[0])
    paths[2].unlink()
    with pytest.raises(FileMissing, match="00003-of-00003"):
        read_model_header(paths[0])
