"""Pieces of a header: where they lie, and what is stepped over."""

from __future__ import annotations

import struct

import pytest

from g4cli.core.errors import BadGGUF
from g4cli.core.gguf import parse_header, read_header
from g4cli.core.gguf_cursor import HeaderIncomplete
from g4cli.core.gguf_pieces import KNOWN_STRINGS, PieceCursor, Pieces
from tests.support.builders import gguf as builders
from tests.support.builders import real_shapes

TENSORS: list[builders.Tensor] = [("a.weight", builders.F32, (8,), None)]
LONG = [0.5] * 20_000  # 80,000 bytes: worth stepping over


def test_pieces_merge_and_know_their_ends() -> None:
    pieces = Pieces(1000)
    for start, end in ((0, 10), (20, 30), (30, 40), (5, 12), (100, 101)):
        pieces.add_piece(start, bytes(range(start, end)))
    assert [pieces.end_of(n) for n in (0, 11, 12, 19, 20, 39, 40, 100)] == [
        12,
        12,
        12,
        19,
        40,
        40,
        40,
        101,
    ]
    assert [pieces.next_start(n) for n in (0, 20, 50, 100)] == [20, 100, 100, 1000]
    assert bytes(pieces.buffer[18:32]) == bytes([0, 0, *range(20, 32)])
    pieces.keep_prefix()
    assert pieces.end_of(25) == 25
    assert pieces.end_of(3) == 12


def parse_spans(
    data: bytes, spans: list[tuple[int, int]], *, jumps: bool
) -> tuple[list[str], bool]:
    """Return the keys that are found in `spans` of `data`, and whether a jump was needed."""
    pieces = Pieces(len(data))
    for start, end in spans:
        pieces.add_piece(start, data[start:end])
    cursor = PieceCursor(pieces, "x", len(data), jumps=jumps)
    header = parse_header(
        pieces.buffer, path="x", file_size=len(data), load=lambda _a, _b: b"", cursor=cursor
    )
    assert header.trailing_bytes == 0
    return list(header.keys), cursor.jumped


def test_numbers_are_stepped_over_without_being_here() -> None:
    data = builders.build_gguf([("n", "[f32]", LONG), ("after", "u32", 1)], TENSORS)
    behind = data.index(b"after") - 8
    head = behind - 4 * len(LONG)
    assert parse_spans(data, [(0, head), (behind, len(data))], jumps=True) == (
        ["n", "after"],
        False,
    )
    with pytest.raises(HeaderIncomplete) as gap:
        parse_spans(data, [(0, head), (behind, len(data))], jumps=False)
    assert (gap.value.at, gap.value.needed) == (head, behind)
    with pytest.raises(HeaderIncomplete) as gap:
        parse_spans(data, [(0, head)], jumps=True)
    assert gap.value.at == behind


def test_bools_are_looked_at() -> None:
    data = builders.build_gguf([("n", "[bool]", [True] * 80_000), ("after", "u32", 1)], TENSORS)
    behind = data.index(b"after") - 8
    with pytest.raises(HeaderIncomplete):
        parse_spans(data, [(0, 100), (behind, len(data))], jumps=True)


@pytest.mark.parametrize("count", [(1 << 60), 1 << 24])
def test_no_step_leaves_the_file(count: int) -> None:
    good = builders.build_gguf([("n", "[f32]", LONG)], TENSORS)
    at = good.index(struct.pack("<Q", len(LONG)))
    bad = good[:at] + struct.pack("<Q", count) + good[at + 8 :]
    with pytest.raises(BadGGUF):
        parse_spans(bad, [(0, 200)], jumps=True)


@pytest.mark.slow
@pytest.mark.requires_vocab
def test_the_known_lengths_are_those_of_the_published_vocabulary() -> None:
    keys = read_header(real_shapes.SHARED_VOCAB).keys
    for (name, count), nbytes in KNOWN_STRINGS.items():
        array = keys[name].data
        assert (array.count, array.nbytes) == (count, nbytes)  # type: ignore[union-attr]
