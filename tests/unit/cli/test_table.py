"""Tables as text: whole rows in a pipe, folded or stacked rows on a terminal."""

from __future__ import annotations

import pytest

from g4cli.cli.views.table import fold_text, lay_out

KEY = "gemma4.attention.layer_norm_rms_epsilon"
WORDS = "what is there and what was expected of it"
ROWS = [(KEY, "f32", "1e-06"), ("general.name", "str", WORDS)]


def drawn(width: int | None, **options: tuple[int, ...]) -> list[str]:
    header, rows = lay_out(("key", "type", "value"), ROWS, width=width, **options)
    return header + [line for lines in rows for line in lines]


def test_a_row_is_one_line_in_a_pipe() -> None:
    assert drawn(None) == [
        f"{'key':39}  type  value",
        f"{KEY}  f32   1e-06",
        f"{'general.name':39}  str   {WORDS}",
    ]


def test_words_fold_on_a_terminal_and_names_do_not() -> None:
    assert drawn(70) == [
        f"{'key':39}  type  value",
        f"{KEY}  f32   1e-06",
        f"{'general.name':39}  str   what is there and what",
        f"{'':47}was expected of it",
    ]


def test_a_narrow_terminal_stacks() -> None:
    assert drawn(40) == [
        KEY,
        "  type f32, value 1e-06",
        "general.name",
        "  type str, value what is there and what",
        "  was expected of it",
    ]


@pytest.mark.parametrize("width", [1, 5, 20, 40, 53, 80, 120])
@pytest.mark.parametrize("columns", [("a", "b b", "c"), ()])
def test_every_character_is_there_at_every_width(columns: tuple[str, ...], width: int) -> None:
    rows = [("名前" * 9, "x" * 50, "1,000"), ("b", "", "word " * 30)]
    header, laid = lay_out(columns, rows, width=width, right=(2,))
    for row, lines in zip(rows, laid, strict=True):
        assert row[0] in lines[0]
        shown = "".join(lines)
        for char in set("".join(row)) - {" "}:
            assert shown.count(char) >= "".join(row).count(char)
    assert bool(header) <= bool(columns)


def test_numbers_stand_to_the_right_under_titles_that_fold() -> None:
    rows = [("q4_0", "2.88 GiB", "131,072")]
    header, laid = lay_out(
        ("type", "needs at 4,096", "largest context"), rows, width=26, right=(1, 2)
    )
    assert header == ["type  needs at  largest", "         4,096  context"]
    assert next(laid) == ["q4_0  2.88 GiB  131,072"]


def test_no_rows() -> None:
    header, laid = lay_out(("a", "b"), [], width=None)
    assert header == ["a  b"]
    assert list(laid) == []


def test_one_long_name_does_not_pad_all_rows() -> None:
    _, laid = lay_out(("a", "b"), [("x" * 9000, "1"), ("y", "2")], width=None)
    assert [len(lines[0]) for lines in laid] == [9003, 123]


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("", 5, [""]),
        ("a b c", 3, ["a b", "c"]),
        ("abcdefg h", 3, ["abc", "def", "g h"]),
        ("漢字漢字", 4, ["漢字", "漢字"]),
        ("a  b", 3, ["a ", "b"]),
    ],
)
def test_fold(text: str, width: int, lines: list[str]) -> None:
    assert fold_text(text, width) == lines
